// Traffic control: token buckets, and the redirection of what a link receives. Pure: requests are
// added to a batch, answers are read.
#pragma once

#include <cstdint>

struct nlmsghdr;

namespace linnet::network {

class RouteBatch;
struct Qdisc;

// Of the ingress discipline, "ffff:".
inline constexpr std::uint32_t kIngressHandle = 0xffff0000U;

// What tc(8) calls "tbf": `limit_bytes` wait at most, the rest is dropped.
struct TokenBucket {
  std::uint64_t rate_bytes = 0;    // a second
  std::uint32_t buffer_ticks = 0;  // the burst, as the time that it takes at the rate
  std::uint32_t limit_bytes = 0;
  bool operator==(const TokenBucket&) const = default;
};

// Ticks of the scheduler's clock in a microsecond, from the text of /proc/net/psched.
double TicksPerMicrosecond(const char* psched);
// As the bandwidth plugin of containernetworking computes it, so that either implementation's CHECK
// accepts what the other one made: 25 ms of the rate may wait.
TokenBucket MakeTokenBucket(std::uint64_t rate_bits, std::uint64_t burst_bits,
                            double ticks_per_microsecond);

// For what leaves the link; takes the place of what was there.
void SetTokenBucket(RouteBatch& batch, std::uint32_t index, const TokenBucket& bucket);
void DelRootQdisc(RouteBatch& batch, std::uint32_t index);
void AddIngressQdisc(RouteBatch& batch, std::uint32_t index);
void DelIngressQdisc(RouteBatch& batch, std::uint32_t index);
// All that `index` receives leaves through `target`; needs the ingress discipline.
void AddRedirect(RouteBatch& batch, std::uint32_t index, std::uint32_t target);

// Of RTM_NEWQDISC and RTM_NEWTFILTER.
Qdisc ParseQdisc(const nlmsghdr* message);
std::uint32_t ParseRedirect(const nlmsghdr* message);  // the target; 0: it does something else

}  // namespace linnet::network
