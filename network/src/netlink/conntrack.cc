#include "netlink/conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include <libmnl/libmnl.h>

#include "linnet/base/unique_fd.h"

#include "netlink/extack.h"

namespace linnet::network {
namespace {

// net/netfilter/nf_internals.h
constexpr std::uint32_t kFilterProtocol = 1U << 3U, kFilterDestinationPort = 1U << 5U;

struct Attributes {
  std::array<const nlattr*, 32> at{};
};

int Collect(const nlattr* attribute, void* data) {
  const std::size_t type = mnl_attr_get_type(attribute);
  auto& out = *static_cast<Attributes*>(data);
  if (type < out.at.size()) out.at[type] = attribute;
  return MNL_CB_OK;
}

Attributes Nested(const nlattr* attribute) {
  Attributes out;
  if (attribute != nullptr) mnl_attr_parse_nested(attribute, Collect, &out);
  return out;
}

nlmsghdr* Begin(char* buffer, int type, int flags, Family family, std::uint32_t sequence) {
  nlmsghdr* m = mnl_nlmsg_put_header(buffer);
  m->nlmsg_type = static_cast<std::uint16_t>((NFNL_SUBSYS_CTNETLINK << 8) | type);
  m->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  m->nlmsg_seq = sequence;
  auto* header = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(m, sizeof(nfgenmsg)));
  header->nfgen_family = family == Family::kV4 ? AF_INET : AF_INET6;
  header->version = NFNETLINK_V0;
  return m;
}

// The attribute CTA_TUPLE_ORIG of a connection in question, as bytes; empty: another connection.
std::string MatchingTuple(const nlmsghdr* m, std::uint8_t protocol, std::uint16_t port) {
  Attributes a;
  mnl_attr_parse(m, sizeof(nfgenmsg), Collect, &a);
  const nlattr* tuple = a.at[CTA_TUPLE_ORIG];
  const Attributes proto = Nested(Nested(tuple).at[CTA_TUPLE_PROTO]);
  const nlattr* number = proto.at[CTA_PROTO_NUM];
  const nlattr* to = proto.at[CTA_PROTO_DST_PORT];
  if (tuple == nullptr || number == nullptr || to == nullptr) return {};
  if (mnl_attr_get_u8(number) != protocol || ntohs(mnl_attr_get_u16(to)) != port) return {};
  return {static_cast<const char*>(mnl_attr_get_payload(tuple)), mnl_attr_get_payload_len(tuple)};
}

Result<void> Exchange(FdRef fd, const nlmsghdr* request, const char* what,
                      const std::function<void(const nlmsghdr*)>& use) {
  if (::send(fd.get(), request, request->nlmsg_len, 0) < 0) return Error::FromErrno(errno, what);
  std::vector<char> buffer(65536);
  for (;;) {
    const ssize_t got = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::FromErrno(errno, what);
    int left = static_cast<int>(got);
    for (const auto* m = reinterpret_cast<const nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(m, left);
         m = mnl_nlmsg_next(m, &left)) {
      if (m->nlmsg_seq != request->nlmsg_seq) continue;
      if (m->nlmsg_type == NLMSG_ERROR || m->nlmsg_type == NLMSG_DONE) {
        if (auto error = ErrorOfAnswer(m, what)) return std::move(*error);
        return Ok();
      }
      use(m);
    }
  }
}

}  // namespace

Result<void> ForgetConnections(Family family, std::uint8_t protocol, std::uint16_t port) {
  const UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!fd) return Error::FromErrno(errno, "open a conntrack socket");
  const int on = 1;
  (void)::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on,
                     sizeof(on));  // only shortens answers
  const timeval limit{.tv_sec = 10, .tv_usec = 0};
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));

  alignas(nlmsghdr) std::array<char, 1024> buffer{};
  nlmsghdr* m = Begin(buffer.data(), IPCTNL_MSG_CT_GET, NLM_F_DUMP, family, 1);
  nlattr* tuple = mnl_attr_nest_start(m, CTA_TUPLE_ORIG);
  nlattr* proto = mnl_attr_nest_start(m, CTA_TUPLE_PROTO);
  mnl_attr_put_u8(m, CTA_PROTO_NUM, protocol);
  mnl_attr_put_u16(m, CTA_PROTO_DST_PORT, htons(port));
  mnl_attr_nest_end(m, proto);
  mnl_attr_nest_end(m, tuple);
  nlattr* filter = mnl_attr_nest_start(m, CTA_FILTER);
  mnl_attr_put_u32(m, CTA_FILTER_ORIG_FLAGS, kFilterProtocol | kFilterDestinationPort);
  mnl_attr_put_u32(m, CTA_FILTER_REPLY_FLAGS, 0);
  mnl_attr_nest_end(m, filter);
  std::vector<std::string> doomed;
  // A kernel that knows no filters shows all: each is looked at anyway.
  LN_TRY(Exchange(fd, m, "list connections", [&](const nlmsghdr* answer) {
    if (std::string bytes = MatchingTuple(answer, protocol, port); !bytes.empty())
      doomed.push_back(std::move(bytes));
  }));
  std::uint32_t sequence = 1;
  for (const std::string& bytes : doomed) {
    nlmsghdr* del = Begin(buffer.data(), IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family, ++sequence);
    mnl_attr_put(del, CTA_TUPLE_ORIG | NLA_F_NESTED, bytes.size(), bytes.data());
    auto done = Exchange(fd, del, "delete a connection", [](const nlmsghdr*) {});
    if (!done && !done.error().IsErrno(ENOENT)) return done;  // ENOENT: it ended by itself
  }
  return Ok();
}

}  // namespace linnet::network
