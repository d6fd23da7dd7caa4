#include "linnet/ipam/range.h"

#include <algorithm>

namespace linnet::ipam {
namespace {

// Where n addresses from a to b both included are more than fits: the maximum.
std::uint64_t Distance(const IpAddress& a, const IpAddress& b) {
  const auto x = a.bytes();
  const auto y = b.bytes();
  constexpr std::uint64_t kMax = std::uint64_t{1} << 63;
  if (x.size() == 16 && !std::equal(x.begin(), x.begin() + 8, y.begin())) return kMax;
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  for (std::size_t i = x.size() == 16 ? 8 : 0; i < x.size(); ++i) {
    low = low << 8 | x[i];
    high = high << 8 | y[i];
  }
  return std::min(high - low, kMax - 1) + 1;
}

std::uint64_t AddCapped(std::uint64_t a, std::uint64_t b) {
  return std::min(a + b, std::uint64_t{1} << 63);
}

Result<IpAddress> InSubnet(const std::string& text, const IpAddress& fallback, const Cidr& subnet,
                           std::string_view what) {
  if (text.empty()) return fallback;
  const IpAddress ip = LN_TRY_CTX(IpAddress::Parse(text), what);
  if (!subnet.Contains(ip)) {
    return InvalidArgument(std::string(what) + " " + ip.str() + " is not in network " +
                           subnet.str());
  }
  return ip;
}

}  // namespace

Result<Range> Range::Make(const RangeSpec& spec) {
  const Cidr subnet = LN_TRY_CTX(Cidr::Parse(spec.subnet), "subnet");
  const int bits = subnet.address().bits();
  if (subnet.prefix() > bits - 2) {
    return InvalidArgument("network " + subnet.str() + " is too small to allocate from");
  }
  if (subnet.Network() != subnet) {
    return InvalidArgument("network has host bits set: for a subnet mask of length " +
                           std::to_string(subnet.prefix()) + " the network address is " +
                           subnet.Network().address().str());
  }
  const IpAddress first = *subnet.First().Next();
  const IpAddress last = subnet.family() == Family::kV4 ? *subnet.Last().Previous() : subnet.Last();
  const IpAddress gateway = LN_TRY(InSubnet(spec.gateway, first, subnet, "gateway"));
  const IpAddress start = LN_TRY(InSubnet(spec.range_start, first, subnet, "rangeStart"));
  const IpAddress end = LN_TRY(InSubnet(spec.range_end, last, subnet, "rangeEnd"));
  if (end < start)
    return InvalidArgument("rangeEnd " + end.str() + " is before rangeStart " + start.str());
  return Range(subnet, start, end, gateway);
}

bool Range::Overlaps(const Range& other) const {
  return family() == other.family() && start_ <= other.end_ && other.start_ <= end_;
}

std::uint64_t Range::Capacity() const {
  const std::uint64_t all = Distance(start_, end_);
  return Contains(gateway_) ? all - 1 : all;
}

std::string Range::str() const { return start_.str() + "-" + end_.str(); }

Result<RangeSet> RangeSet::Make(std::vector<Range> ranges) {
  if (ranges.empty()) return InvalidArgument("a range set is empty");
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].family() != ranges[0].family())
      return InvalidArgument("mixed address families in a range set");
    for (std::size_t j = 0; j < i; ++j) {
      if (ranges[i].Overlaps(ranges[j])) {
        return InvalidArgument("subnets " + ranges[j].str() + " and " + ranges[i].str() +
                               " overlap");
      }
    }
  }
  return RangeSet(std::move(ranges));
}

const Range* RangeSet::Find(const IpAddress& ip) const {
  const auto it =
      std::find_if(ranges_.begin(), ranges_.end(), [&](const Range& r) { return r.Contains(ip); });
  return it == ranges_.end() ? nullptr : &*it;
}

bool RangeSet::Overlaps(const RangeSet& other) const {
  return std::any_of(ranges_.begin(), ranges_.end(), [&](const Range& a) {
    return std::any_of(other.ranges_.begin(), other.ranges_.end(),
                       [&](const Range& b) { return a.Overlaps(b); });
  });
}

std::uint64_t RangeSet::Capacity() const {
  std::uint64_t sum = 0;
  for (const Range& range : ranges_) sum = AddCapped(sum, range.Capacity());
  return sum;
}

std::string RangeSet::str() const {
  std::string out;
  for (const Range& range : ranges_) out += (out.empty() ? "" : ",") + range.str();
  return out;
}

Result<void> CheckDisjoint(const std::vector<RangeSet>& sets) {
  for (std::size_t i = 0; i < sets.size(); ++i) {
    for (std::size_t j = i + 1; j < sets.size(); ++j) {
      if (sets[i].Overlaps(sets[j])) {
        return InvalidArgument("range set " + std::to_string(i) + " overlaps with " +
                               std::to_string(j));
      }
    }
  }
  return Ok();
}

RoundRobin::RoundRobin(const RangeSet& set, const std::optional<IpAddress>& last)
    : set_(set), index_(0), cursor_(set.ranges().front().start()) {
  for (std::size_t i = 0; last && i < set.ranges().size(); ++i) {
    if (!set.ranges()[i].Contains(*last)) continue;
    index_ = i;
    cursor_ = *last;
    Step();
    break;
  }
}

void RoundRobin::Step() {
  if (cursor_ == set_.ranges()[index_].end()) {
    index_ = (index_ + 1) % set_.ranges().size();
    cursor_ = set_.ranges()[index_].start();
  } else {
    cursor_ = *cursor_.Next();
  }
}

std::optional<RoundRobin::Candidate> RoundRobin::Next() {
  for (;;) {
    if (first_ && cursor_ == *first_) return std::nullopt;
    if (!first_) first_ = cursor_;
    const Candidate candidate{cursor_, &set_.ranges()[index_]};
    Step();
    if (candidate.ip != candidate.range->gateway()) return candidate;
  }
}

}  // namespace linnet::ipam
