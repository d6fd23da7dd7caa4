#include "nft/rule_builder.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/xt_comment.h>
#include <linux/netfilter/xt_conntrack.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <span>

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/udata.h>

#include "linnet/base/check.h"
#include "linnet/base/text.h"

namespace linnet::network {
namespace {

constexpr std::uint32_t Register(std::uint32_t word) { return NFT_REG32_00 + word; }

template <class Int>
std::string_view Bytes(const Int& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

}  // namespace

void RuleBuilder::Free::operator()(nftnl_rule* rule) const { nftnl_rule_free(rule); }

RuleBuilder::RuleBuilder(NftFamily family, std::string chain, std::string what)
    : family_(family), what_(std::move(what)), rule_(nftnl_rule_alloc()) {
  LN_CHECK(rule_ != nullptr);
  nftnl_rule_set_str(rule_.get(), NFTNL_RULE_CHAIN, chain.c_str());
  nftnl_rule_set_u32(rule_.get(), NFTNL_RULE_FAMILY, static_cast<std::uint32_t>(family));
}

nftnl_expr* RuleBuilder::Expression(const char* name) {
  nftnl_expr* e = nftnl_expr_alloc(name);
  LN_CHECK(e != nullptr);
  nftnl_rule_add_expr(rule_.get(), e);
  return e;
}

RuleBuilder& RuleBuilder::LoadMeta(std::uint32_t key, std::uint32_t word) {
  nftnl_expr* e = Expression("meta");
  nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
  nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, Register(word));
  return *this;
}

RuleBuilder& RuleBuilder::LoadPayload(std::uint32_t base, std::uint32_t offset,
                                      std::uint32_t length, std::uint32_t word) {
  nftnl_expr* e = Expression("payload");
  nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
  nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
  nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, length);
  nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, Register(word));
  return *this;
}

RuleBuilder& RuleBuilder::Compare(std::string_view bytes, Match match) {
  nftnl_expr* e = Expression("cmp");
  nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, Register(0));
  nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, match == Match::kEqual ? NFT_CMP_EQ : NFT_CMP_NEQ);
  nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, bytes.data(), static_cast<std::uint32_t>(bytes.size()));
  return *this;
}

RuleBuilder& RuleBuilder::Mask(std::string_view mask) {
  const std::string zero(mask.size(), '\0');
  const auto size = static_cast<std::uint32_t>(mask.size());
  nftnl_expr* e = Expression("bitwise");
  nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, Register(0));
  nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, Register(0));
  nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, size);
  nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, mask.data(), size);
  nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, zero.data(), size);
  return *this;
}

RuleBuilder& RuleBuilder::InSet(const std::string& set, Match match) {
  nftnl_expr* e = Expression("lookup");
  nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, set.c_str());
  nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, Register(0));
  if (match == Match::kUnequal) nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  return *this;
}

RuleBuilder& RuleBuilder::MapTo(const std::string& map) {
  nftnl_expr* e = Expression("lookup");
  nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, map.c_str());
  nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, Register(0));
  nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_DREG, Register(0));
  return *this;
}

RuleBuilder& RuleBuilder::NfProto(std::uint8_t family) {
  return LoadMeta(NFT_META_NFPROTO).Compare(Bytes(family));
}

RuleBuilder& RuleBuilder::L4Proto(std::uint8_t protocol, Match match) {
  return LoadMeta(NFT_META_L4PROTO).Compare(Bytes(protocol), match);
}

RuleBuilder& RuleBuilder::EtherType(std::uint16_t type) {
  const std::uint16_t wire = htons(type);
  return LoadPayload(NFT_PAYLOAD_LL_HEADER, 12, 2).Compare(Bytes(wire));
}

RuleBuilder& RuleBuilder::ThByte(std::uint32_t offset, std::uint8_t value) {
  return LoadPayload(NFT_PAYLOAD_TRANSPORT_HEADER, offset, 1).Compare(Bytes(value));
}

RuleBuilder& RuleBuilder::ThWord(std::uint32_t offset, std::uint16_t value) {
  const std::uint16_t wire = htons(value);
  return LoadPayload(NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2).Compare(Bytes(wire));
}

RuleBuilder& RuleBuilder::DestinationIsLocal() {
  nftnl_expr* e = Expression("fib");
  nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_DREG, Register(0));
  nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
  nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR);
  const std::uint32_t local = RTN_LOCAL;
  return Compare(Bytes(local));
}

RuleBuilder& RuleBuilder::Ct(std::uint32_t key, std::uint32_t bits, Match match) {
  nftnl_expr* e = Expression("ct");
  nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, key);
  nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, Register(0));
  const std::uint32_t zero = 0;
  return Mask(Bytes(bits)).Compare(Bytes(zero), match);
}

RuleBuilder& RuleBuilder::CtStatus(std::uint32_t bits, Match match) {
  return Ct(NFT_CT_STATUS, bits, match);
}
RuleBuilder& RuleBuilder::CtState(std::uint32_t bits, Match match) {
  return Ct(NFT_CT_STATE, bits, match);
}

RuleBuilder& RuleBuilder::XtMatch(const std::string& name, std::uint32_t revision,
                                  std::string info) {
  nftnl_expr* e = Expression("match");
  info.resize((info.size() + 7) / 8 * 8, '\0');  // XT_ALIGN
  // The expression owns its copy.
  auto* copy = static_cast<char*>(std::malloc(info.size()));
  LN_CHECK(copy != nullptr);
  std::memcpy(copy, info.data(), info.size());
  nftnl_expr_set_str(e, NFTNL_EXPR_MT_NAME, name.c_str());
  nftnl_expr_set_u32(e, NFTNL_EXPR_MT_REV, revision);
  nftnl_expr_set(e, NFTNL_EXPR_MT_INFO, copy, static_cast<std::uint32_t>(info.size()));
  return *this;
}

RuleBuilder& RuleBuilder::XtComment(const std::string& text) {
  std::string info = text.substr(0, XT_MAX_COMMENT_LEN - 1);
  info.resize(XT_MAX_COMMENT_LEN, '\0');
  return XtMatch("comment", 0, std::move(info));
}

RuleBuilder& RuleBuilder::XtEstablished() {
  xt_conntrack_mtinfo3 info{};
  info.match_flags = XT_CONNTRACK_STATE;
  info.state_mask =
      XT_CONNTRACK_STATE_BIT(IP_CT_ESTABLISHED) | XT_CONNTRACK_STATE_BIT(IP_CT_RELATED);
  return XtMatch("conntrack", 3, std::string(Bytes(info)));
}

RuleBuilder& RuleBuilder::Verdict(int code, const std::string& chain) {
  nftnl_expr* e = Expression("immediate");
  nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
  if (!chain.empty()) nftnl_expr_set_str(e, NFTNL_EXPR_IMM_CHAIN, chain.c_str());
  nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, static_cast<std::uint32_t>(code));
  return *this;
}

RuleBuilder& RuleBuilder::Dnat(std::uint8_t family, std::uint32_t address_word,
                               std::uint32_t port_word) {
  nftnl_expr* e = Expression("nat");
  nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
  nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, family);
  nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, Register(address_word));
  nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, Register(port_word));
  return *this;
}

RuleBuilder& RuleBuilder::Counter() {
  (void)Expression("counter");
  return *this;
}

RuleBuilder& RuleBuilder::Masquerade(bool fully_random) {
  nftnl_expr* e = Expression("masq");
  if (fully_random) nftnl_expr_set_u32(e, NFTNL_EXPR_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
  return *this;
}

RuleBuilder& RuleBuilder::Comment(const std::string& text) {
  nftnl_udata_buf* buffer = nftnl_udata_buf_alloc(256);
  if (buffer == nullptr) return *this;
  if (nftnl_udata_put_strz(buffer, NFTNL_UDATA_RULE_COMMENT, text.c_str())) {
    nftnl_rule_set_data(rule_.get(), NFTNL_RULE_USERDATA, nftnl_udata_buf_data(buffer),
                        nftnl_udata_buf_len(buffer));
  }
  nftnl_udata_buf_free(buffer);
  return *this;
}

namespace {

void Append(std::string& out, const nftnl_expr* e, std::uint16_t attribute) {
  std::uint32_t length = 0;
  const void* data = nftnl_expr_get(e, attribute, &length);
  std::string bytes =
      data == nullptr ? std::string() : std::string(static_cast<const char*>(data), length);
  bytes.resize(bytes.find_last_not_of('\0') + 1);  // the kernel pads
  out += ' ' + Hex(bytes);
}

std::span<const std::uint16_t> AttributesThatMatter(std::string_view expression) {
  static constexpr std::uint16_t kPayload[] = {NFTNL_EXPR_PAYLOAD_BASE, NFTNL_EXPR_PAYLOAD_OFFSET,
                                               NFTNL_EXPR_PAYLOAD_LEN};
  static constexpr std::uint16_t kCmp[] = {NFTNL_EXPR_CMP_OP, NFTNL_EXPR_CMP_DATA};
  static constexpr std::uint16_t kMeta[] = {NFTNL_EXPR_META_KEY};
  static constexpr std::uint16_t kBitwise[] = {NFTNL_EXPR_BITWISE_MASK, NFTNL_EXPR_BITWISE_XOR};
  static constexpr std::uint16_t kMatch[] = {NFTNL_EXPR_MT_NAME, NFTNL_EXPR_MT_REV,
                                             NFTNL_EXPR_MT_INFO};
  static constexpr std::uint16_t kImmediate[] = {NFTNL_EXPR_IMM_VERDICT, NFTNL_EXPR_IMM_CHAIN};
  if (expression == "payload") return kPayload;
  if (expression == "cmp") return kCmp;
  if (expression == "meta") return kMeta;
  if (expression == "bitwise") return kBitwise;
  if (expression == "match") return kMatch;
  if (expression == "immediate") return kImmediate;
  return {};
}

}  // namespace

std::string RuleSignature(const nftnl_rule* rule) {
  std::string out;
  const std::unique_ptr<nftnl_expr_iter, void (*)(nftnl_expr_iter*)> all(
      nftnl_expr_iter_create(rule), nftnl_expr_iter_destroy);
  if (!all) return out;
  while (const nftnl_expr* e = nftnl_expr_iter_next(all.get())) {
    const std::string name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);
    if (name == "counter") continue;
    out += name;
    for (const std::uint16_t attribute : AttributesThatMatter(name)) Append(out, e, attribute);
    out += ';';
  }
  return out;
}

}  // namespace linnet::network
