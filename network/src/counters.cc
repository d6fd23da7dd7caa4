#include "linnet/network/counters.h"

#include <array>
#include <charconv>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "net_dev.h"
#include "netns.h"

namespace linnet::network {
namespace {

//   eth0: bytes packets errs drop fifo frame compressed multicast   bytes packets errs drop fifo
//   colls carrier compressed
constexpr std::size_t kColumns = 16;
constexpr std::size_t kFirstSent = 8;

Result<InterfaceCounters> ParseLine(std::string_view line) {
  const std::size_t colon = line.rfind(':');  // a name may hold one, a number does not
  std::array<std::uint64_t, kColumns> v{};
  std::string_view rest =
      colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
  for (std::uint64_t& value : v) {
    rest = Trim(rest);
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (error != std::errc())
      return Error(Code::kDataLoss, "net/dev: \"" + std::string(line) + "\" lacks columns");
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  }
  const auto* const sent = v.data() + kFirstSent;
  return InterfaceCounters{.name = std::string(Trim(line.substr(0, colon))),
                           .rx_bytes = v[0],
                           .rx_packets = v[1],
                           .rx_errors = v[2],
                           .rx_dropped = v[3],
                           .tx_bytes = sent[0],
                           .tx_packets = sent[1],
                           .tx_errors = sent[2],
                           .tx_dropped = sent[3]};
}

}  // namespace

Result<std::vector<InterfaceCounters>> ParseNetDev(std::string_view text) {
  std::vector<InterfaceCounters> out;
  for (int number = 0; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (number < 2 || Trim(line).empty()) continue;  // headings
    out.push_back(LN_TRY(ParseLine(line)));
  }
  return out;
}

// Not by rtnetlink: its dumps wait for every change of any interface of the machine (RTNL), this
// file for nothing.
std::vector<Result<std::vector<InterfaceCounters>>> ReadCounters(std::span<const FdRef> all) {
  std::vector<Result<std::string>> texts(all.size(), Result<std::string>(std::string()));
  VisitEachNetns(
      all, [&](std::size_t i) { texts[i] = ReadFile("/proc/thread-self/net/dev"); },
      [&](std::size_t i, Error error) { texts[i] = std::move(error); });
  std::vector<Result<std::vector<InterfaceCounters>>> out;
  out.reserve(all.size());
  for (Result<std::string>& text : texts) {
    if (text) {
      out.push_back(ParseNetDev(*text));
    } else {
      out.emplace_back(std::move(text).error());
    }
  }
  return out;
}

Result<std::vector<InterfaceCounters>> ReadCounters(FdRef netns) {
  return std::move(ReadCounters(std::span<const FdRef>(&netns, 1)).front());
}

}  // namespace linnet::network
