#include "nft/nft_batch.h"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <bit>

#include <libmnl/libmnl.h>
#include <libnftnl/rule.h>

#include "linnet/base/check.h"

namespace linnet::network {
namespace {

constexpr std::size_t kMaxMessage = 4096;
constexpr std::size_t kMaxComment = 127;
constexpr std::uint8_t kUserdataComment = 0;  // NFTNL_UDATA_SET_ELEM_COMMENT

// NFTNL_UDATA_SET_KEYBYTEORDER, its length, BYTEORDER_HOST_ENDIAN.
constexpr std::uint8_t kHostOrder[] = {0, 4, std::endian::native == std::endian::little,
                                       0, 0, std::endian::native == std::endian::big};

constexpr std::uint16_t NftType(int type) {
  return static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | type);
}

void PutText(nlmsghdr* m, std::uint16_t type, const std::string& text) {
  mnl_attr_put_strz(m, type, text.c_str());
}
void PutU32(nlmsghdr* m, std::uint16_t type, std::uint32_t value) {
  mnl_attr_put_u32(m, type, htonl(value));
}
void PutValue(nlmsghdr* m, std::uint16_t type, const std::string& bytes) {
  nlattr* nest = mnl_attr_nest_start(m, type);
  mnl_attr_put(m, NFTA_DATA_VALUE, bytes.size(), bytes.data());
  mnl_attr_nest_end(m, nest);
}

}  // namespace

NftBatch::NftBatch(std::optional<std::uint32_t> generation) {
  nlmsghdr* m = Begin(NFNL_MSG_BATCH_BEGIN, NftFamily{AF_UNSPEC}, 0, "begin a transaction");
  auto* header = static_cast<nfgenmsg*>(mnl_nlmsg_get_payload(m));
  header->res_id = htons(NFNL_SUBSYS_NFTABLES);
  if (generation) PutU32(m, NFNL_BATCH_GENID, *generation);
  Close();
}

nlmsghdr* NftBatch::Begin(std::uint16_t type, NftFamily family, std::uint16_t flags,
                          std::string what) {
  buffer_.resize(end_ + kMaxMessage);
  messages_.push_back({end_, std::move(what)});
  nlmsghdr* m = mnl_nlmsg_put_header(&buffer_[end_]);
  m->nlmsg_type = type;
  m->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  auto* header = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(m, sizeof(nfgenmsg)));
  header->nfgen_family = static_cast<std::uint8_t>(family);
  header->version = NFNETLINK_V0;
  return m;
}

void NftBatch::Close() {
  const auto* m = reinterpret_cast<const nlmsghdr*>(&buffer_[messages_.back().offset]);
  LN_CHECK(m->nlmsg_len <= kMaxMessage);
  end_ += MNL_ALIGN(m->nlmsg_len);
}

void NftBatch::AddTable(const NftTableName& table) {
  nlmsghdr* m =
      Begin(NftType(NFT_MSG_NEWTABLE), table.family, NLM_F_CREATE, "create table " + table.name);
  PutText(m, NFTA_TABLE_NAME, table.name);
  Close();
}

void NftBatch::DelTable(const NftTableName& table) {
  nlmsghdr* m = Begin(NftType(NFT_MSG_DELTABLE), table.family, 0, "delete table " + table.name);
  PutText(m, NFTA_TABLE_NAME, table.name);
  Close();
}

void NftBatch::AddChain(const NftTableName& table, const NftChainSpec& chain) {
  nlmsghdr* m =
      Begin(NftType(NFT_MSG_NEWCHAIN), table.family, NLM_F_CREATE, "create chain " + chain.name);
  PutText(m, NFTA_CHAIN_TABLE, table.name);
  PutText(m, NFTA_CHAIN_NAME, chain.name);
  if (!chain.type.empty()) {
    nlattr* hook = mnl_attr_nest_start(m, NFTA_CHAIN_HOOK);
    PutU32(m, NFTA_HOOK_HOOKNUM, chain.hook);
    PutU32(m, NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(chain.priority));
    mnl_attr_nest_end(m, hook);
    PutU32(m, NFTA_CHAIN_POLICY, NF_ACCEPT);
    PutText(m, NFTA_CHAIN_TYPE, chain.type);
  }
  Close();
}

void NftBatch::AddSet(const NftTableName& table, const NftSetSpec& set) {
  nlmsghdr* m =
      Begin(NftType(NFT_MSG_NEWSET), table.family, NLM_F_CREATE, "create set " + set.name);
  PutText(m, NFTA_SET_TABLE, table.name);
  PutText(m, NFTA_SET_NAME, set.name);
  // An id is wanted for sets that rules of the same batch refer to; they may as well refer by name.
  PutU32(m, NFTA_SET_ID, static_cast<std::uint32_t>(messages_.size()));
  PutU32(m, NFTA_SET_FLAGS, set.is_map() ? NFT_SET_MAP : 0);
  PutU32(m, NFTA_SET_KEY_TYPE, set.key_type);
  PutU32(m, NFTA_SET_KEY_LEN, set.key_length);
  if (set.is_map()) {
    PutU32(m, NFTA_SET_DATA_TYPE, set.data_type);
    PutU32(m, NFTA_SET_DATA_LEN, set.data_length);
  }
  // Host byte order, for `nft list`: else it shows nothing for names of interfaces.
  if (set.host_order) mnl_attr_put(m, NFTA_SET_USERDATA, sizeof(kHostOrder), kHostOrder);
  Close();
}

void NftBatch::AddRule(const NftTableName& table, nftnl_rule* rule, const std::string& what,
                       Place place) {
  const int append = place == Place::kLast ? NLM_F_APPEND : 0;
  nlmsghdr* m = Begin(NftType(NFT_MSG_NEWRULE), table.family,
                      static_cast<std::uint16_t>(NLM_F_CREATE | append), "add rule: " + what);
  nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, table.name.c_str());
  nftnl_rule_nlmsg_build_payload(m, rule);
  Close();
}

void NftBatch::DelRule(const NftTableName& table, const std::string& chain, std::uint64_t handle) {
  nlmsghdr* m = Begin(NftType(NFT_MSG_DELRULE), table.family, 0, "delete a rule of chain " + chain);
  PutText(m, NFTA_RULE_TABLE, table.name);
  PutText(m, NFTA_RULE_CHAIN, chain);
  mnl_attr_put_u64(m, NFTA_RULE_HANDLE, htobe64(handle));
  Close();
}

void NftBatch::PutElement(nlmsghdr* m, const std::string& table, const NftElement& element,
                          std::string_view comment) {
  PutText(m, NFTA_SET_ELEM_LIST_TABLE, table);
  PutText(m, NFTA_SET_ELEM_LIST_SET, element.set);
  nlattr* list = mnl_attr_nest_start(m, NFTA_SET_ELEM_LIST_ELEMENTS);
  nlattr* one = mnl_attr_nest_start(m, NFTA_LIST_ELEM);
  PutValue(m, NFTA_SET_ELEM_KEY, element.key);
  if (!element.data.empty()) PutValue(m, NFTA_SET_ELEM_DATA, element.data);
  if (!comment.empty()) {
    std::string tlv;
    const std::string_view text = comment.substr(0, kMaxComment);
    tlv += static_cast<char>(kUserdataComment);
    tlv += static_cast<char>(text.size() + 1);
    tlv.append(text) += '\0';
    mnl_attr_put(m, NFTA_SET_ELEM_USERDATA, tlv.size(), tlv.data());
  }
  mnl_attr_nest_end(m, one);
  mnl_attr_nest_end(m, list);
  Close();
}

void NftBatch::AddElement(const std::string& table, const NftElement& element,
                          std::string_view comment) {
  PutElement(
      Begin(NftType(NFT_MSG_NEWSETELEM), element.family, NLM_F_CREATE, "add to " + element.set),
      table, element, comment);
}

void NftBatch::DelElement(const std::string& table, const NftElement& element) {
  NftElement key = element;
  key.data.clear();  // the kernel compares the key alone
  PutElement(Begin(NftType(NFT_MSG_DELSETELEM), element.family, 0, "delete from " + element.set),
             table, key, {});
}

void NftBatch::Finish(std::uint32_t first_sequence) {
  auto* last = reinterpret_cast<nlmsghdr*>(&buffer_[messages_.back().offset]);
  // Kernels before 6.10 do not acknowledge BATCH_END.
  last->nlmsg_flags |= NLM_F_ACK;
  for (std::size_t i = 0; i < messages_.size(); ++i) {
    reinterpret_cast<nlmsghdr*>(&buffer_[messages_[i].offset])->nlmsg_seq =
        first_sequence + static_cast<std::uint32_t>(i);
  }
  nlmsghdr* end = Begin(NFNL_MSG_BATCH_END, NftFamily{AF_UNSPEC}, 0, "commit the transaction");
  static_cast<nfgenmsg*>(mnl_nlmsg_get_payload(end))->res_id = htons(NFNL_SUBSYS_NFTABLES);
  end->nlmsg_seq = first_sequence + static_cast<std::uint32_t>(messages_.size() - 1);
  Close();
  messages_.pop_back();
}

}  // namespace linnet::network
