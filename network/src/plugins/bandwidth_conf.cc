#include "plugins/bandwidth_conf.h"

#include <array>
#include <string_view>

#include <nettle/sha2.h>

#include "linnet/base/text.h"

namespace linnet::network {
namespace {

constexpr std::uint64_t kMostBurstBytes = 0xffffffffU;
constexpr std::size_t kMaxLinkName = 15;

struct Key {
  const char* name;
  std::uint64_t Bandwidth::*field;
};
constexpr Key kKeys[] = {{"ingressRate", &Bandwidth::ingress_rate},
                         {"ingressBurst", &Bandwidth::ingress_burst},
                         {"egressRate", &Bandwidth::egress_rate},
                         {"egressBurst", &Bandwidth::egress_burst}};

Result<void> CheckPair(std::uint64_t rate, std::uint64_t burst) {
  if (burst == 0 && rate != 0) return InvalidArgument("if rate is set, burst must also be set");
  if (rate == 0 && burst != 0) return InvalidArgument("if burst is set, rate must also be set");
  if (burst / 8 >= kMostBurstBytes) return InvalidArgument("burst cannot be more than 4GB");
  return Ok();
}

// Says whether any of the keys is there.
Result<bool> Read(const JsonView& view, Bandwidth& out) {
  bool any = false;
  for (const Key& key : kKeys) {
    const auto value = LN_TRY(view.Maybe<std::uint64_t>(key.name));
    if (!value) continue;
    out.*key.field = *value;
    any = true;
  }
  return any;
}

std::string HashedName(const std::string& text) {
  sha512_ctx context;  // NOLINT(cppcoreguidelines-init-variables): the next line does
  sha512_init(&context);
  sha512_update(&context, text.size(), reinterpret_cast<const std::uint8_t*>(text.data()));
  std::array<std::uint8_t, SHA512_DIGEST_SIZE> digest{};
  sha512_digest(&context, digest.size(), digest.data());
  const std::string name =
      "bwp" + Hex({reinterpret_cast<const char*>(digest.data()), digest.size()});
  return name.substr(0, kMaxLinkName);
}

}  // namespace

Result<Bandwidth> ParseBandwidth(const JsonView& conf) {
  Bandwidth out;
  if (!LN_TRY(Read(conf, out))) {
    if (const auto runtime = LN_TRY(conf.Find("runtimeConfig"))) {
      if (const auto given = LN_TRY(runtime->Find("bandwidth"))) LN_TRY(Read(*given, out));
    }
  }
  LN_TRY(CheckPair(out.ingress_rate, out.ingress_burst));
  LN_TRY(CheckPair(out.egress_rate, out.egress_burst));
  return out;
}

std::string IfbName(const std::string& network, const std::string& container_id) {
  return HashedName(network + container_id);
}

std::string IfbName(const std::string& network, const std::string& container_id,
                    const std::string& ifname) {
  return HashedName(network + container_id + "/" + ifname);
}

}  // namespace linnet::network
