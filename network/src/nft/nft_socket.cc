#include "nft/nft_socket.h"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include <libmnl/libmnl.h>
#include <libnftnl/rule.h>

#include "netlink/attributes.h"
#include "netlink/extack.h"
#include "nft/rule_builder.h"

namespace linnet::network {
namespace {

constexpr std::size_t kReceiveBuffer = 65536;
constexpr std::size_t kAnswers = 2;

Attributes AttributesOf(const nlmsghdr* m) { return network::AttributesOf(m, sizeof(nfgenmsg)); }
std::string Bytes(const nlattr* a) {
  if (a == nullptr) return {};
  return {static_cast<const char*>(mnl_attr_get_payload(a)), mnl_attr_get_payload_len(a)};
}
std::string Text(const nlattr* a) {
  std::string text = Bytes(a);
  return text.substr(0, text.find('\0'));
}
std::uint32_t U32(const nlattr* a) {
  return a != nullptr && mnl_attr_get_payload_len(a) >= 4 ? ntohl(mnl_attr_get_u32(a)) : 0;
}

// The comment in the TLVs of an element's user data.
std::string CommentOf(const std::string& userdata) {
  for (std::size_t i = 0; i + 2 <= userdata.size();) {
    const auto type = static_cast<unsigned char>(userdata[i]);
    const auto length = static_cast<unsigned char>(userdata[i + 1]);
    if (i + 2 + length > userdata.size()) break;
    if (type == 0) {
      const std::string text = userdata.substr(i + 2, length);
      return text.substr(0, text.find('\0'));
    }
    i += 2U + length;
  }
  return {};
}

// Bytes of `list` from `at` on.
int Left(const nlattr* list, const nlattr* at) {
  const char* end =
      static_cast<const char*>(mnl_attr_get_payload(list)) + mnl_attr_get_payload_len(list);
  return static_cast<int>(end - reinterpret_cast<const char*>(at));
}

void ReadElements(const nlmsghdr* m, const std::string& set, NftFamily family,
                  std::vector<OwnedElement>& out) {
  const nlattr* list = AttributesOf(m)[NFTA_SET_ELEM_LIST_ELEMENTS];
  if (list == nullptr) return;
  const auto* one = static_cast<const nlattr*>(mnl_attr_get_payload(list));
  for (; mnl_attr_ok(one, Left(list, one)); one = mnl_attr_next(one)) {
    const Attributes a = Nested(one);
    OwnedElement element;
    element.element.set = set;
    element.element.family = family;
    element.element.key = Bytes(Nested(a[NFTA_SET_ELEM_KEY])[NFTA_DATA_VALUE]);
    element.element.data = Bytes(Nested(a[NFTA_SET_ELEM_DATA])[NFTA_DATA_VALUE]);
    element.owner = CommentOf(Bytes(a[NFTA_SET_ELEM_USERDATA]));
    out.push_back(std::move(element));
  }
}

}  // namespace

Result<NftSocket> NftSocket::Open() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!fd) return Error::FromErrno(errno, "open an nftables socket");
  const int on = 1;
  for (const int option : {NETLINK_EXT_ACK, NETLINK_CAP_ACK}) {
    if (::setsockopt(fd.get(), SOL_NETLINK, option, &on, sizeof(on)) < 0) {
      return Error::FromErrno(errno, "set an option of an nftables socket");
    }
  }
  const timeval limit{.tv_sec = 10, .tv_usec = 0};
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  return NftSocket(std::move(fd));
}

std::uint32_t NftSocket::port_id() const {
  sockaddr_nl name{};
  socklen_t length = sizeof(name);
  if (::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&name), &length) < 0) return 0;
  return name.nl_pid;
}

Result<void> NftSocket::Receive(std::uint32_t first, std::size_t count,
                                const std::function<std::string(std::size_t)>& what,
                                const Use& use) {
  // Two at once: a short list and its end.
  const auto buffer = std::make_unique_for_overwrite<char[]>(kReceiveBuffer * kAnswers);
  std::array<iovec, kAnswers> places{};
  std::array<mmsghdr, kAnswers> headers{};
  for (std::size_t i = 0; i < kAnswers; ++i) {
    places[i] = {.iov_base = &buffer[i * kReceiveBuffer], .iov_len = kReceiveBuffer};
    headers[i].msg_hdr.msg_iov = &places[i];
    headers[i].msg_hdr.msg_iovlen = 1;
  }
  std::optional<Error> error;
  bool interrupted = false;
  for (;;) {
    const int got = ::recvmmsg(fd_.get(), headers.data(), kAnswers, MSG_WAITFORONE, nullptr);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::FromErrno(errno, "answer of nftables");
    for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
      int left = static_cast<int>(headers[i].msg_len);
      for (const auto* m = static_cast<const nlmsghdr*>(places[i].iov_base); mnl_nlmsg_ok(m, left);
           m = mnl_nlmsg_next(m, &left)) {
        const std::size_t position = m->nlmsg_seq - first;
        if (position >= count) continue;  // of an earlier exchange that failed as a whole
        if ((m->nlmsg_flags & NLM_F_DUMP_INTR) != 0) interrupted = true;
        if (m->nlmsg_type != NLMSG_ERROR && m->nlmsg_type != NLMSG_DONE) {
          if (use) use(m);
          continue;
        }
        if (auto failed = ErrorOfAnswer(m, what(position)); failed && !error)
          error = std::move(failed);
        // An error for the first message of a batch (BATCH_BEGIN) ends it: no other answer
        // follows.
        if (position + 1 != count && !(position == 0 && error)) continue;
        if (error) return std::move(*error);
        if (interrupted) return Unavailable(what(0) + ": changed while it was read");
        return Ok();
      }
    }
  }
}

Result<void> NftSocket::Commit(NftBatch& batch) {
  const std::uint32_t first = sequence_;
  sequence_ += static_cast<std::uint32_t>(batch.message_count());
  const std::size_t count = batch.message_count();
  batch.Finish(first);
  const std::string_view bytes = batch.bytes();
  if (bytes.size() > 65536 && bytes.size() > send_buffer_) {
    const int size = static_cast<int>(bytes.size() * 2);
    (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &size,
                       sizeof(size));  // else sendto says EMSGSIZE
    (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size,
                       sizeof(size));  // one error for each message at most
    send_buffer_ = bytes.size();
  }
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (::sendto(fd_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&kernel),
               sizeof(kernel)) < 0) {
    return Error::FromErrno(errno, "send a transaction to nftables");
  }
  auto done = Receive(first, count, [&](std::size_t i) { return batch.what(i); }, {});
  if (!done) return std::move(done).error().With("nftables");
  return Ok();
}

Result<void> NftSocket::Ask(int type, std::uint8_t family, bool dump, const std::string& what,
                            const std::function<void(nlmsghdr*)>& fill, const Use& use) {
  alignas(nlmsghdr) std::array<char, 2048> buffer{};
  nlmsghdr* m = mnl_nlmsg_put_header(buffer.data());
  m->nlmsg_type = static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | type);
  m->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | (dump ? NLM_F_DUMP : NLM_F_ACK));
  m->nlmsg_seq = sequence_++;
  auto* header = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(m, sizeof(nfgenmsg)));
  header->nfgen_family = family;
  header->version = NFNETLINK_V0;
  if (fill) fill(m);
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (::sendto(fd_.get(), m, m->nlmsg_len, 0, reinterpret_cast<const sockaddr*>(&kernel),
               sizeof(kernel)) < 0) {
    return Error::FromErrno(errno, "ask nftables");
  }
  return Receive(
      m->nlmsg_seq, 1, [&](std::size_t) { return what; }, use);
}

Result<std::uint32_t> NftSocket::Generation() {
  std::uint32_t id = 0;
  LN_TRY(Ask(NFT_MSG_GETGEN, AF_UNSPEC, false, "nftables: read the generation", {},
             [&](const nlmsghdr* m) { id = U32(AttributesOf(m)[NFTA_GEN_ID]); }));
  return id;
}

Result<std::optional<std::uint64_t>> NftSocket::TableHandle(const NftTableName& table) {
  std::optional<std::uint64_t> handle;
  auto done = Ask(
      NFT_MSG_GETTABLE, static_cast<std::uint8_t>(table.family), false,
      "nftables: look up table " + table.name,
      [&](nlmsghdr* m) { mnl_attr_put_strz(m, NFTA_TABLE_NAME, table.name.c_str()); },
      [&](const nlmsghdr* m) {
        const nlattr* a = AttributesOf(m)[NFTA_TABLE_HANDLE];
        handle = a != nullptr ? be64toh(mnl_attr_get_u64(a)) : 0;
      });
  if (!done && done.error().IsErrno(ENOENT)) return std::optional<std::uint64_t>();
  if (!done) return std::move(done).error();
  return handle;
}

Result<std::vector<std::string>> NftSocket::ListTables(NftFamily family) {
  constexpr int kTries = 10;
  for (int i = 0;; ++i) {
    std::vector<std::string> names;
    auto done = Ask(
        NFT_MSG_GETTABLE, static_cast<std::uint8_t>(family), true, "nftables: list tables",
        [](nlmsghdr*) {},
        [&](const nlmsghdr* m) { names.push_back(Text(AttributesOf(m)[NFTA_TABLE_NAME])); });
    if (done) return names;
    // Interrupted by somebody's commit: what came may be incomplete.
    if (!done.error().Is(Code::kUnavailable) || i + 1 == kTries) return std::move(done).error();
  }
}

Result<std::vector<std::string>> NftSocket::ListSets(const NftTableName& table) {
  constexpr int kTries = 10;
  for (int i = 0;; ++i) {
    std::vector<std::string> names;
    auto done = Ask(
        NFT_MSG_GETSET, static_cast<std::uint8_t>(table.family), true, "nftables: list sets",
        [&](nlmsghdr* m) { mnl_attr_put_strz(m, NFTA_SET_TABLE, table.name.c_str()); },
        [&](const nlmsghdr* m) {
          const Attributes a = AttributesOf(m);
          if (Text(a[NFTA_SET_TABLE]) == table.name) names.push_back(Text(a[NFTA_SET_NAME]));
        });
    if (done) return names;
    if (done.error().IsErrno(ENOENT)) return std::vector<std::string>();
    if (!done.error().Is(Code::kUnavailable) || i + 1 == kTries) return std::move(done).error();
  }
}

Result<std::vector<OwnedElement>> NftSocket::ListElements(const NftTableName& table,
                                                          const std::string& set) {
  constexpr int kTries = 10;
  for (int i = 0;; ++i) {
    std::vector<OwnedElement> elements;
    auto done = Ask(
        NFT_MSG_GETSETELEM, static_cast<std::uint8_t>(table.family), true,
        "nftables: list set " + set,
        [&](nlmsghdr* m) {
          mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_TABLE, table.name.c_str());
          mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_SET, set.c_str());
        },
        [&](const nlmsghdr* m) { ReadElements(m, set, table.family, elements); });
    if (done) return elements;
    if (done.error().IsErrno(ENOENT)) return std::vector<OwnedElement>();
    if (!done.error().Is(Code::kUnavailable) || i + 1 == kTries) return std::move(done).error();
  }
}

Result<std::optional<OwnedElement>> NftSocket::FindElement(const std::string& table,
                                                           const NftElement& key) {
  std::vector<OwnedElement> found;
  auto done = Ask(
      NFT_MSG_GETSETELEM, static_cast<std::uint8_t>(key.family), false,
      "nftables: look up an element of " + key.set,
      [&](nlmsghdr* m) {
        mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_TABLE, table.c_str());
        mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_SET, key.set.c_str());
        nlattr* list = mnl_attr_nest_start(m, NFTA_SET_ELEM_LIST_ELEMENTS);
        nlattr* one = mnl_attr_nest_start(m, NFTA_LIST_ELEM);
        nlattr* value = mnl_attr_nest_start(m, NFTA_SET_ELEM_KEY);
        mnl_attr_put(m, NFTA_DATA_VALUE, key.key.size(), key.key.data());
        mnl_attr_nest_end(m, value);
        mnl_attr_nest_end(m, one);
        mnl_attr_nest_end(m, list);
      },
      [&](const nlmsghdr* m) { ReadElements(m, key.set, key.family, found); });
  if (!done && done.error().IsErrno(ENOENT)) return std::optional<OwnedElement>();
  if (!done) return std::move(done).error();
  if (found.empty()) return std::optional<OwnedElement>();
  return std::optional<OwnedElement>(std::move(found.front()));
}

Result<bool> NftSocket::ChainDrops(const NftTableName& table, const std::string& chain) {
  bool drops = false;
  auto done = Ask(
      NFT_MSG_GETCHAIN, static_cast<std::uint8_t>(table.family), false,
      "nftables: look up chain " + chain,
      [&](nlmsghdr* m) {
        mnl_attr_put_strz(m, NFTA_CHAIN_TABLE, table.name.c_str());
        mnl_attr_put_strz(m, NFTA_CHAIN_NAME, chain.c_str());
      },
      [&](const nlmsghdr* m) {
        const nlattr* policy = AttributesOf(m)[NFTA_CHAIN_POLICY];
        drops = policy != nullptr && U32(policy) == NF_DROP;
      });
  if (!done && done.error().IsErrno(ENOENT)) return false;
  if (!done) return std::move(done).error();
  return drops;
}

Result<bool> NftSocket::HasChain(const NftTableName& table, const std::string& chain) {
  auto done = Ask(
      NFT_MSG_GETCHAIN, static_cast<std::uint8_t>(table.family), false,
      "nftables: look up chain " + chain,
      [&](nlmsghdr* m) {
        mnl_attr_put_strz(m, NFTA_CHAIN_TABLE, table.name.c_str());
        mnl_attr_put_strz(m, NFTA_CHAIN_NAME, chain.c_str());
      },
      [](const nlmsghdr*) {});
  if (!done && done.error().IsErrno(ENOENT)) return false;
  if (!done) return std::move(done).error();
  return true;
}

Result<std::vector<ListedRule>> NftSocket::ListRules(const NftTableName& table,
                                                     const std::string& chain) {
  constexpr int kTries = 10;
  for (int i = 0;; ++i) {
    std::vector<ListedRule> rules;
    auto done = Ask(
        NFT_MSG_GETRULE, static_cast<std::uint8_t>(table.family), true,
        "nftables: list rules of " + chain,
        [&](nlmsghdr* m) {
          mnl_attr_put_strz(m, NFTA_RULE_TABLE, table.name.c_str());
          mnl_attr_put_strz(m, NFTA_RULE_CHAIN, chain.c_str());
        },
        [&](const nlmsghdr* m) {
          const std::unique_ptr<nftnl_rule, void (*)(const nftnl_rule*)> rule(nftnl_rule_alloc(),
                                                                              nftnl_rule_free);
          if (!rule || nftnl_rule_nlmsg_parse(m, rule.get()) < 0) return;
          rules.push_back(
              {nftnl_rule_get_u64(rule.get(), NFTNL_RULE_HANDLE), RuleSignature(rule.get())});
        });
    if (done) return rules;
    if (done.error().IsErrno(ENOENT)) return std::vector<ListedRule>();
    if (!done.error().Is(Code::kUnavailable) || i + 1 == kTries) return std::move(done).error();
  }
}

Result<std::vector<std::string>> NftSocket::ListRuleData(const NftTableName& table,
                                                         const std::string& chain) {
  std::vector<std::string> data;
  auto done = Ask(
      NFT_MSG_GETRULE, static_cast<std::uint8_t>(table.family), true,
      "nftables: list rules of " + chain,
      [&](nlmsghdr* m) {
        mnl_attr_put_strz(m, NFTA_RULE_TABLE, table.name.c_str());
        mnl_attr_put_strz(m, NFTA_RULE_CHAIN, chain.c_str());
      },
      [&](const nlmsghdr* m) {
        if (std::string bytes = Bytes(AttributesOf(m)[NFTA_RULE_USERDATA]); !bytes.empty())
          data.push_back(std::move(bytes));
      });
  if (!done) return std::move(done).error();
  return data;
}

}  // namespace linnet::network
