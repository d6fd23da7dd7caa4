// Ranges that addresses are taken from. Values are valid by construction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/result.h"

namespace linnet::ipam {

// As a configuration says it; empty: the default.
struct RangeSpec {
  std::string subnet;
  std::string range_start;  // the first address of the subnet
  std::string range_end;    // the last one; for IPv4 that before the broadcast address
  std::string gateway;      // the first address
};

// Addresses of one subnet, both ends included; the gateway is never given out.
class Range {
 public:
  // Errors: kInvalidArgument a text is no address, the subnet is too small or has host bits set, an
  // end or the gateway lies outside of it.
  static Result<Range> Make(const RangeSpec& spec);
  const Cidr& subnet() const { return subnet_; }
  const IpAddress& start() const { return start_; }
  const IpAddress& end() const { return end_; }
  const IpAddress& gateway() const { return gateway_; }
  Family family() const { return subnet_.family(); }
  bool Contains(const IpAddress& ip) const {
    return ip.family() == family() && start_ <= ip && ip <= end_;
  }
  bool Overlaps(const Range& other) const;
  // How many addresses it has to give, at most 2^63.
  std::uint64_t Capacity() const;
  std::string str() const;  // "10.1.0.1-10.1.0.254"

 private:
  Range(Cidr subnet, IpAddress start, IpAddress end, IpAddress gateway)
      : subnet_(subnet), start_(start), end_(end), gateway_(gateway) {}
  Cidr subnet_;
  IpAddress start_, end_, gateway_;
};

// Ranges of one family, not empty, disjoint: an attachment gets one address from them together.
class RangeSet {
 public:
  static Result<RangeSet> Make(std::vector<Range> ranges);
  const std::vector<Range>& ranges() const { return ranges_; }
  Family family() const { return ranges_.front().family(); }
  const Range* Find(const IpAddress& ip) const;
  bool Overlaps(const RangeSet& other) const;
  std::uint64_t Capacity() const;
  std::string str() const;  // ranges with "," between

 private:
  explicit RangeSet(std::vector<Range> ranges) : ranges_(std::move(ranges)) {}
  std::vector<Range> ranges_;
};

// Errors: kInvalidArgument "range set 0 overlaps with 1".
Result<void> CheckDisjoint(const std::vector<RangeSet>& sets);

// Goes round a set once, from the address after `last` (the set's first one where that is absent or
// not in it), skipping gateways.
class RoundRobin {
 public:
  RoundRobin(const RangeSet& set, const std::optional<IpAddress>& last);
  struct Candidate {
    IpAddress ip;
    const Range* range;
  };
  // nullopt: every address was seen.
  std::optional<Candidate> Next();

 private:
  void Step();
  const RangeSet& set_;
  std::size_t index_;
  IpAddress cursor_;
  std::optional<IpAddress> first_;
};

}  // namespace linnet::ipam
