#include "nft/iptables_filter.h"

// Before linux/in.h, which steps back for it (linux/libc-compat.h); not the other way round.
// clang-format off
#include <netinet/in.h>
// clang-format on

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <cerrno>

#include "nft/nft_batch.h"
#include "nft/nft_socket.h"
#include "nft/rule_builder.h"

namespace linnet::network {
namespace {

constexpr const char* kForward = "FORWARD";
constexpr const char* kOwn = "CNI-FORWARD";
constexpr int kTries = 100;

struct Protocol {
  Family family;
  NftFamily table;
  std::uint32_t length, source, destination;  // of addresses in the header
};
constexpr Protocol kProtocols[] = {{Family::kV4, NftFamily::kIpv4, 4, 12, 16},
                                   {Family::kV6, NftFamily::kIpv6, 16, 8, 24}};

// A rule, and how iptables(8) would say it.
struct Wanted {
  RuleBuilder rule;
  std::string text;
};

Wanted Jump(NftFamily family, const char* from, const std::string& to, const char* comment) {
  RuleBuilder rule(family, from, "jump to " + to);
  rule.XtComment(comment).Counter().Verdict(NFT_JUMP, to);
  return {std::move(rule), std::string("[-m comment --comment ") + comment + " -j " + to + "]"};
}

Wanted JumpToOwn(NftFamily family) {
  return Jump(family, kForward, kOwn, "CNI firewall plugin rules");
}
Wanted JumpToAdmin(NftFamily family, const std::string& admin) {
  return Jump(family, kOwn, admin, "CNI firewall plugin admin overrides");
}

std::vector<Wanted> RulesOf(const Protocol& p, const IpAddress& pod) {
  const std::string_view address(reinterpret_cast<const char*>(pod.bytes().data()),
                                 pod.bytes().size());
  const std::string text = pod.str() + "/" + std::to_string(pod.bits());
  std::vector<Wanted> out;
  RuleBuilder answers(p.table, kOwn, "answers to " + pod.str());
  answers.LoadPayload(NFT_PAYLOAD_NETWORK_HEADER, p.destination, p.length)
      .Compare(address)
      .XtEstablished()
      .Counter()
      .Verdict(NF_ACCEPT);
  out.push_back({std::move(answers),
                 "[-d " + text + " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT]"});
  RuleBuilder sent(p.table, kOwn, "what " + pod.str() + " sends");
  sent.LoadPayload(NFT_PAYLOAD_NETWORK_HEADER, p.source, p.length)
      .Compare(address)
      .Counter()
      .Verdict(NF_ACCEPT);
  out.push_back({std::move(sent), "[-s " + text + " -j ACCEPT]"});
  return out;
}

std::vector<Wanted> RulesOf(const Protocol& p, const std::vector<IpAddress>& pods) {
  std::vector<Wanted> out;
  for (const IpAddress& pod : pods) {
    if (pod.family() != p.family) continue;
    for (Wanted& wanted : RulesOf(p, pod)) out.push_back(std::move(wanted));
  }
  return out;
}

bool Has(const std::vector<ListedRule>& rules, RuleBuilder& wanted) {
  const std::string signature = RuleSignature(wanted.get());
  return std::any_of(rules.begin(), rules.end(),
                     [&](const ListedRule& r) { return r.signature == signature; });
}

template <class Try>
Result<void> UntilUndisturbed(Try attempt) {
  for (int i = 0;; ++i) {
    auto done = attempt();
    if (done || i + 1 == kTries) return done;
    // ERESTART: anybody committed since the generation was read. EEXIST, ENOENT: lost such a race
    // before generations were compared.
    const Error& error = done.error();
    if (!error.IsErrno(ERESTART) && !error.IsErrno(EEXIST)) return done;
  }
}

Result<void> TryAdmit(NftSocket& socket, const Protocol& p, const std::string& admin,
                      std::vector<Wanted>& rules) {
  const NftTableName table{p.table, "filter"};
  NftBatch batch(LN_TRY(socket.Generation()));
  if (!LN_TRY(socket.TableHandle(table))) batch.AddTable(table);
  // Never again where it is: that would set its policy back to "accept".
  if (!LN_TRY(socket.HasChain(table, kForward)))
    batch.AddChain(table, {kForward, "filter", NF_INET_FORWARD, 0});
  for (const std::string& chain : {std::string(kOwn), admin}) {
    if (!LN_TRY(socket.HasChain(table, chain))) batch.AddChain(table, {.name = chain, .type = {}});
  }
  const auto forward = LN_TRY(socket.ListRules(table, kForward));
  const auto own = LN_TRY(socket.ListRules(table, kOwn));
  const auto jump = [&](const std::vector<ListedRule>& present, Wanted wanted) {
    if (!Has(present, wanted.rule))
      batch.AddRule(table, wanted.rule.get(), wanted.text, NftBatch::Place::kFirst);
  };
  jump(forward, JumpToOwn(p.table));
  jump(own, JumpToAdmin(p.table, admin));
  for (Wanted& wanted : rules) {
    if (!Has(own, wanted.rule)) batch.AddRule(table, wanted.rule.get(), wanted.text);
  }
  return batch.empty() ? Ok() : socket.Commit(batch);
}

}  // namespace

Result<void> AdmitPods(NftSocket& socket, const std::string& admin_chain,
                       const std::vector<IpAddress>& pods) {
  for (const Protocol& p : kProtocols) {
    std::vector<Wanted> rules = RulesOf(p, pods);
    if (rules.empty()) continue;
    auto done = UntilUndisturbed([&] { return TryAdmit(socket, p, admin_chain, rules); });
    if (!done && done.error().IsErrno(ENOENT)) {
      return std::move(done).error().With(
          "the firewall plugin needs a kernel with CONFIG_NFT_COMPAT, "
          "CONFIG_NETFILTER_XT_MATCH_CONNTRACK and CONFIG_NETFILTER_XT_MATCH_COMMENT");
    }
    if (!done) return done;
  }
  return Ok();
}

Result<void> ForgetPods(NftSocket& socket, const std::vector<IpAddress>& pods) {
  for (const Protocol& p : kProtocols) {
    std::vector<Wanted> rules = RulesOf(p, pods);
    if (rules.empty()) continue;
    const NftTableName table{p.table, "filter"};
    auto done = UntilUndisturbed([&]() -> Result<void> {
      NftBatch batch(LN_TRY(socket.Generation()));
      for (const ListedRule& listed : LN_TRY(socket.ListRules(table, kOwn))) {
        const bool ours = std::any_of(rules.begin(), rules.end(), [&](Wanted& wanted) {
          return RuleSignature(wanted.rule.get()) == listed.signature;
        });
        if (ours) batch.DelRule(table, kOwn, listed.handle);
      }
      return batch.empty() ? Ok() : socket.Commit(batch);
    });
    if (!done) return done;
  }
  return Ok();
}

Result<void> CheckPods(NftSocket& socket, const std::string& admin_chain,
                       const std::vector<IpAddress>& pods) {
  for (const Protocol& p : kProtocols) {
    std::vector<Wanted> rules = RulesOf(p, pods);
    if (rules.empty()) continue;
    const NftTableName table{p.table, "filter"};
    const auto own = LN_TRY(socket.ListRules(table, kOwn));
    Wanted to_own = JumpToOwn(p.table);
    if (!Has(LN_TRY(socket.ListRules(table, kForward)), to_own.rule))
      return FailedPrecondition("expected FORWARD rule " + to_own.text + " not found");
    Wanted to_admin = JumpToAdmin(p.table, admin_chain);
    if (!Has(own, to_admin.rule))
      return FailedPrecondition("expected CNI-FORWARD rule " + to_admin.text + " not found");
    for (Wanted& wanted : rules) {
      if (!Has(own, wanted.rule))
        return FailedPrecondition("expected rule " + wanted.text + " not found");
    }
  }
  return Ok();
}

}  // namespace linnet::network
