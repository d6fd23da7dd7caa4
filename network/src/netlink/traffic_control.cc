#include "netlink/traffic_control.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "netlink/attributes.h"
#include "netlink/route_socket.h"

namespace linnet::network {
namespace {

constexpr std::uint32_t kRootHandle = 0x00010000U;  // "1:"
constexpr double kMicrosecondsPerSecond = 1e6;
constexpr double kLatencyMicroseconds = 25000;

tcmsg& Begin(RouteBatch& batch, std::uint16_t type, int flags, const char* what,
             std::uint32_t index, std::uint32_t parent) {
  batch.Begin(type, static_cast<std::uint16_t>(flags), what);
  auto& header = batch.Extra<tcmsg>();
  header.tcm_ifindex = static_cast<int>(index);
  header.tcm_parent = parent;
  return header;
}

template <class Struct>
void PutStruct(RouteBatch& batch, std::uint16_t attribute, const Struct& value) {
  batch.Put(attribute, {reinterpret_cast<const std::uint8_t*>(&value), sizeof(value)});
}

template <class Struct>
bool Take(const nlattr* attribute, Struct& out) {
  if (attribute == nullptr || mnl_attr_get_payload_len(attribute) < sizeof(out)) return false;
  std::memcpy(&out, mnl_attr_get_payload(attribute), sizeof(out));
  return true;
}

std::string KindOf(const nlattr* attribute) {
  if (attribute == nullptr) return {};
  const char* text = static_cast<const char*>(mnl_attr_get_payload(attribute));
  return {text, ::strnlen(text, mnl_attr_get_payload_len(attribute))};
}

}  // namespace

double TicksPerMicrosecond(const char* psched) {
  // Nanoseconds per microsecond and per tick, ticks per second of the clock (net/sched/sch_api.c,
  // psched_show).
  unsigned t2us = 0;
  unsigned us2t = 0;
  unsigned resolution = 0;
  if (std::sscanf(psched, "%x %x %x", &t2us, &us2t, &resolution) != 3 || us2t == 0)
    return 15.625;  // 64 ns a tick: every kernel's since 2.6.31
  const double factor = static_cast<double>(resolution) / kMicrosecondsPerSecond;
  return static_cast<double>(t2us) / static_cast<double>(us2t) * factor;
}

TokenBucket MakeTokenBucket(std::uint64_t rate_bits, std::uint64_t burst_bits,
                            double ticks_per_microsecond) {
  const std::uint64_t rate = rate_bits / 8;
  const auto burst = static_cast<std::uint32_t>(burst_bits / 8);
  const auto clamp = [](double value) {
    constexpr double kMost = 4294967295.0;
    return value >= kMost ? 0xffffffffU : static_cast<std::uint32_t>(value);
  };
  const std::uint32_t microseconds =
      rate == 0
          ? 0
          : clamp(static_cast<double>(burst) * kMicrosecondsPerSecond / static_cast<double>(rate));
  return {.rate_bytes = rate,
          .buffer_ticks = clamp(static_cast<double>(microseconds) * ticks_per_microsecond),
          .limit_bytes = clamp(
              static_cast<double>(rate) * kLatencyMicroseconds / kMicrosecondsPerSecond + burst)};
}

void SetTokenBucket(RouteBatch& batch, std::uint32_t index, const TokenBucket& bucket) {
  Begin(batch, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, "create qdisc", index, TC_H_ROOT)
      .tcm_handle = kRootHandle;
  batch.PutText(TCA_KIND, "tbf");
  batch.Nest(TCA_OPTIONS, [&] {
    tc_tbf_qopt options{};
    options.rate.rate = bucket.rate_bytes > 0xffffffffU
                            ? 0xffffffffU
                            : static_cast<std::uint32_t>(bucket.rate_bytes);
    options.buffer = bucket.buffer_ticks;
    options.limit = bucket.limit_bytes;
    PutStruct(batch, TCA_TBF_PARMS, options);
    if (bucket.rate_bytes > 0xffffffffU) PutStruct(batch, TCA_TBF_RATE64, bucket.rate_bytes);
  });
}

void DelRootQdisc(RouteBatch& batch, std::uint32_t index) {
  Begin(batch, RTM_DELQDISC, 0, "delete qdisc", index, TC_H_ROOT).tcm_handle = kRootHandle;
}

void AddIngressQdisc(RouteBatch& batch, std::uint32_t index) {
  Begin(batch, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, "create ingress qdisc", index, TC_H_INGRESS)
      .tcm_handle = kIngressHandle;
  batch.PutText(TCA_KIND, "ingress");
}

void DelIngressQdisc(RouteBatch& batch, std::uint32_t index) {
  Begin(batch, RTM_DELQDISC, 0, "delete ingress qdisc", index, TC_H_INGRESS).tcm_handle =
      kIngressHandle;
}

void AddRedirect(RouteBatch& batch, std::uint32_t index, std::uint32_t target) {
  Begin(batch, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, "add filter", index, kIngressHandle)
      .tcm_info = TC_H_MAKE(1U << 16U, htons(ETH_P_ALL));
  batch.PutText(TCA_KIND, "u32");
  batch.Nest(TCA_OPTIONS, [&] {
    // One key that matches anything: 0 & 0 at offset 0.
    std::array<std::uint8_t, sizeof(tc_u32_sel) + sizeof(tc_u32_key)> selector{};
    tc_u32_sel head{};
    head.flags = TC_U32_TERMINAL;
    head.nkeys = 1;
    std::memcpy(selector.data(), &head, sizeof(head));
    batch.Put(TCA_U32_SEL, selector);
    batch.PutU32(TCA_U32_CLASSID, TC_H_MAKE(1U << 16U, 1U));
    batch.Nest(TCA_U32_ACT, [&] {
      batch.Nest(1, [&] {
        batch.PutText(TCA_ACT_KIND, "mirred");
        batch.Nest(TCA_ACT_OPTIONS, [&] {
          tc_mirred action{};
          action.action = TC_ACT_STOLEN;
          action.eaction = TCA_EGRESS_REDIR;
          action.ifindex = target;
          PutStruct(batch, TCA_MIRRED_PARMS, action);
        });
      });
    });
  });
}

Qdisc ParseQdisc(const nlmsghdr* message) {
  const auto* header = static_cast<const tcmsg*>(mnl_nlmsg_get_payload(message));
  const Attributes a = AttributesOf(message, sizeof(*header));
  Qdisc out;
  out.kind = KindOf(a[TCA_KIND]);
  out.handle = header->tcm_handle;
  if (out.kind != "tbf") return out;
  const Attributes options = Nested(a[TCA_OPTIONS]);
  tc_tbf_qopt parameters{};
  if (!Take(options[TCA_TBF_PARMS], parameters)) return out;
  out.token_bucket = TokenBucket{.rate_bytes = parameters.rate.rate,
                                 .buffer_ticks = parameters.buffer,
                                 .limit_bytes = parameters.limit};
  std::uint64_t rate = 0;
  if (Take(options[TCA_TBF_RATE64], rate)) out.token_bucket->rate_bytes = rate;
  return out;
}

std::uint32_t ParseRedirect(const nlmsghdr* message) {
  const Attributes a = AttributesOf(message, sizeof(tcmsg));
  if (KindOf(a[TCA_KIND]) != "u32") return 0;
  const Attributes action = Nested(Nested(Nested(a[TCA_OPTIONS])[TCA_U32_ACT])[1]);
  if (KindOf(action[TCA_ACT_KIND]) != "mirred") return 0;
  tc_mirred parameters{};
  if (!Take(Nested(action[TCA_ACT_OPTIONS])[TCA_MIRRED_PARMS], parameters)) return 0;
  return parameters.eaction == TCA_EGRESS_REDIR ? parameters.ifindex : 0;
}

}  // namespace linnet::network
