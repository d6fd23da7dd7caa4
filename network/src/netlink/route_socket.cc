#include "netlink/route_socket.h"

#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <libmnl/libmnl.h>

#include "netlink/attributes.h"
#include "netlink/extack.h"

namespace linnet::network {
namespace {

constexpr std::size_t kMaxMessage = 2048;
constexpr std::size_t kReceiveBuffer = 32768;
// Answers taken at once: of a batch they are a link (1.5 KiB) and an acknowledgement each.
constexpr std::size_t kAnswers = 4;

std::uint32_t U32(const nlattr* a) {
  return a != nullptr && mnl_attr_get_payload_len(a) >= 4 ? mnl_attr_get_u32(a) : 0;
}
std::uint8_t U8(const nlattr* a) {
  return a != nullptr && mnl_attr_get_payload_len(a) >= 1 ? mnl_attr_get_u8(a) : 0;
}
std::string Text(const nlattr* a) {
  if (a == nullptr) return {};
  const char* text = static_cast<const char*>(mnl_attr_get_payload(a));
  return {text, ::strnlen(text, mnl_attr_get_payload_len(a))};
}
std::optional<IpAddress> Ip(const nlattr* a) {
  if (a == nullptr) return std::nullopt;
  auto ip = IpAddress::FromBytes(
      {static_cast<const std::uint8_t*>(mnl_attr_get_payload(a)), mnl_attr_get_payload_len(a)});
  if (!ip) return std::nullopt;
  return *ip;
}

Link ParseLink(const nlmsghdr* message) {
  const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  const Attributes a = AttributesOf(message, sizeof(*info));
  Link link;
  link.index = static_cast<std::uint32_t>(info->ifi_index);
  link.up = (info->ifi_flags & IFF_UP) != 0;
  link.running = (info->ifi_flags & IFF_RUNNING) != 0;
  link.promiscuous = (info->ifi_flags & IFF_PROMISC) != 0;
  link.all_multicast = (info->ifi_flags & IFF_ALLMULTI) != 0;
  link.tx_queue_length = U32(a[IFLA_TXQLEN]);
  link.name = Text(a[IFLA_IFNAME]);
  link.alias = Text(a[IFLA_IFALIAS]);
  link.mtu = U32(a[IFLA_MTU]);
  link.master = U32(a[IFLA_MASTER]);
  link.peer = U32(a[IFLA_LINK]);
  link.promiscuity = U32(a[IFLA_PROMISCUITY]);
  if (a[IFLA_ADDRESS] != nullptr && mnl_attr_get_payload_len(a[IFLA_ADDRESS]) == 6) {
    std::array<std::uint8_t, 6> bytes{};
    std::memcpy(bytes.data(), mnl_attr_get_payload(a[IFLA_ADDRESS]), bytes.size());
    link.mac = MacAddress(bytes);
  }
  const Attributes details = Nested(a[IFLA_LINKINFO]);
  link.kind = Text(details[IFLA_INFO_KIND]);
  if (link.kind == "bridge") {
    const Attributes bridge = Nested(details[IFLA_INFO_DATA]);
    const nlattr* pvid = bridge[IFLA_BR_VLAN_DEFAULT_PVID];
    if (pvid != nullptr && mnl_attr_get_payload_len(pvid) >= 2)
      link.default_pvid = mnl_attr_get_u16(pvid);
  }
  if (Text(details[IFLA_INFO_SLAVE_KIND]) == "bridge") {
    const Attributes port = Nested(details[IFLA_INFO_SLAVE_DATA]);
    link.port_state = U8(port[IFLA_BRPORT_STATE]);
    link.hairpin = U8(port[IFLA_BRPORT_MODE]) != 0;
    link.isolated = U8(port[IFLA_BRPORT_ISOLATED]) != 0;
  }
  return link;
}

std::uint8_t AddressFamily(const IpAddress& ip) { return ip.is_v4() ? AF_INET : AF_INET6; }

}  // namespace

// --- RouteBatch

void RouteBatch::Begin(std::uint16_t type, std::uint16_t flags, std::string what) {
  std::size_t end = 0;
  if (!messages_.empty()) end = messages_.back().offset + MNL_ALIGN(current()->nlmsg_len);
  buffer_.resize(end + kMaxMessage);  // zeroed; only Begin() moves the buffer
  messages_.push_back({end, std::move(what)});
  nlmsghdr* header = mnl_nlmsg_put_header(&buffer_[end]);
  header->nlmsg_type = type;
  header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
}

nlmsghdr* RouteBatch::current() {
  return reinterpret_cast<nlmsghdr*>(&buffer_[messages_.back().offset]);
}

void* RouteBatch::ExtraBytes(std::size_t size) {
  LN_CHECK(current()->nlmsg_len + size <= kMaxMessage);
  return mnl_nlmsg_put_extra_header(current(), size);
}

void RouteBatch::Put(std::uint16_t attribute, std::span<const std::uint8_t> bytes) {
  LN_CHECK(mnl_attr_put_check(current(), kMaxMessage, attribute, bytes.size(), bytes.data()));
}
void RouteBatch::PutU8(std::uint16_t attribute, std::uint8_t value) { Put(attribute, {&value, 1}); }
void RouteBatch::PutU16(std::uint16_t attribute, std::uint16_t value) {
  Put(attribute, {reinterpret_cast<const std::uint8_t*>(&value), sizeof(value)});
}
void RouteBatch::PutU32(std::uint16_t attribute, std::uint32_t value) {
  Put(attribute, {reinterpret_cast<const std::uint8_t*>(&value), sizeof(value)});
}
void RouteBatch::PutText(std::uint16_t attribute, const std::string& text) {
  Put(attribute, {reinterpret_cast<const std::uint8_t*>(text.c_str()), text.size() + 1});
}
void RouteBatch::Nest(std::uint16_t attribute, const std::function<void()>& fill) {
  nlattr* nest = mnl_attr_nest_start_check(current(), kMaxMessage, attribute);
  LN_CHECK(nest != nullptr);
  fill();
  mnl_attr_nest_end(current(), nest);
}

// --- RouteSocket

Result<RouteSocket> RouteSocket::Open() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd) return Error::FromErrno(errno, "open a route socket");
  const int on = 1;
  for (const int option : {NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK}) {
    if (::setsockopt(fd.get(), SOL_NETLINK, option, &on, sizeof(on)) < 0) {
      return Error::FromErrno(errno, "set an option of a route socket");
    }
  }
  // Answers are there when send() returns; the limit only turns a kernel bug into an error.
  const timeval limit{.tv_sec = 10, .tv_usec = 0};
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  return RouteSocket(std::move(fd));
}

Result<void> RouteSocket::Send(RouteBatch& batch, std::uint16_t flags_of_last) {
  first_sequence_ = sequence_;
  for (const auto& message : batch.messages_) {
    reinterpret_cast<nlmsghdr*>(&batch.buffer_[message.offset])->nlmsg_seq = sequence_++;
  }
  batch.current()->nlmsg_flags =
      static_cast<std::uint16_t>(batch.current()->nlmsg_flags | flags_of_last);
  const std::size_t size = batch.messages_.back().offset + batch.current()->nlmsg_len;
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  const ssize_t sent = ::sendto(fd_.get(), batch.buffer_.data(), size, 0,
                                reinterpret_cast<const sockaddr*>(&kernel), sizeof(kernel));
  if (sent < 0)
    return Error::FromErrno(errno, batch.messages_.front().what + ": send to the kernel");
  return Ok();
}

Result<void> RouteSocket::Receive(RouteBatch& batch,
                                  const std::function<void(const nlmsghdr*)>& use, int tolerated) {
  // NOLINTNEXTLINE(cppcoreguidelines-init-variables): filled by recvmmsg
  alignas(nlmsghdr) std::array<std::array<char, kReceiveBuffer>, kAnswers> buffers;
  std::array<iovec, kAnswers> places{};
  std::array<mmsghdr, kAnswers> headers{};
  for (std::size_t i = 0; i < kAnswers; ++i) {
    places[i] = {.iov_base = buffers[i].data(), .iov_len = buffers[i].size()};
    headers[i].msg_hdr.msg_iov = &places[i];
    headers[i].msg_hdr.msg_iovlen = 1;
  }
  std::optional<Error> first_error;
  bool interrupted = false;
  for (;;) {
    const int got = ::recvmmsg(fd_.get(), headers.data(), kAnswers, MSG_WAITFORONE, nullptr);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return Error::FromErrno(errno, batch.messages_.front().what + ": answer of the kernel");
    for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
      int left = static_cast<int>(headers[i].msg_len);
      for (const auto* m = reinterpret_cast<const nlmsghdr*>(buffers[i].data());
           mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
        const std::uint32_t position = m->nlmsg_seq - first_sequence_;
        if (position >= batch.messages_.size()) continue;  // of an earlier, failed exchange
        const bool last = position + 1 == batch.messages_.size();
        if ((m->nlmsg_flags & NLM_F_DUMP_INTR) != 0) interrupted = true;
        if (m->nlmsg_type == NLMSG_ERROR || m->nlmsg_type == NLMSG_DONE) {
          auto error = ErrorOfAnswer(m, batch.messages_[position].what);
          if (error && !(tolerated != 0 && error->IsErrno(tolerated)) && !first_error)
            first_error = std::move(error);
          if (!last) continue;
          if (first_error) return std::move(*first_error);
          if (interrupted)
            return Unavailable(batch.messages_.front().what + ": changed while it was read");
          return Ok();
        }
        if (use) use(m);
      }
    }
  }
}

Result<void> RouteSocket::Run(RouteBatch& batch) {
  if (batch.empty()) return Ok();
  LN_TRY(Send(batch, NLM_F_ACK));
  return Receive(batch, {});
}

Result<void> RouteSocket::Dump(const std::function<void(RouteBatch&)>& build,
                               const std::function<void()>& restart,
                               const std::function<void(const nlmsghdr*)>& use) {
  constexpr int kTries = 10;
  for (int i = 0;; ++i) {
    restart();
    RouteBatch batch;
    build(batch);
    LN_TRY(Send(batch, NLM_F_DUMP));
    auto done = Receive(batch, use);
    if (done || !done.error().Is(Code::kUnavailable) || i + 1 == kTries) return done;
  }
}

bool RouteSocket::Control(std::uint64_t request, void* argument) const {
  return ::ioctl(fd_.get(), request, argument) == 0;
}

std::string RouteSocket::NameOf(std::uint32_t index) const {
  ifreq request{};
  request.ifr_ifindex = static_cast<int>(index);
  return Control(SIOCGIFNAME, &request) ? request.ifr_name : std::string();
}

std::uint32_t RouteSocket::IndexOf(const std::string& name) const {
  ifreq request{};
  if (name.size() >= sizeof(request.ifr_name)) return 0;
  std::memcpy(request.ifr_name, name.c_str(), name.size() + 1);
  if (!Control(SIOCGIFINDEX, &request)) return 0;
  return static_cast<std::uint32_t>(request.ifr_ifindex);
}

namespace {

void AskForLink(RouteBatch& batch, const std::string& name) {
  batch.Begin(RTM_GETLINK, 0, "look up link " + name);
  batch.Extra<ifinfomsg>();
  batch.PutText(IFLA_IFNAME, name);
  batch.PutU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

}  // namespace

Result<std::optional<Link>> RouteSocket::FindLink(std::uint32_t index) {
  RouteBatch batch;
  batch.Begin(RTM_GETLINK, 0, "look up link " + std::to_string(index));
  batch.Extra<ifinfomsg>().ifi_index = static_cast<int>(index);
  batch.PutU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  std::optional<Link> link;
  LN_TRY(Send(batch, NLM_F_ACK));
  LN_TRY(Receive(
      batch,
      [&](const nlmsghdr* m) {
        if (m->nlmsg_type == RTM_NEWLINK) link = ParseLink(m);
      },
      ENODEV));
  return link;
}

Result<std::optional<Link>> RouteSocket::FindLink(const std::string& name) {
  return std::move(LN_TRY(FindLinks({name})).front());
}

Result<std::vector<std::optional<Link>>> RouteSocket::FindLinks(
    const std::vector<std::string>& names) {
  std::vector<std::optional<Link>> links(names.size());
  if (names.empty()) return links;
  RouteBatch batch;
  for (const std::string& name : names) AskForLink(batch, name);
  LN_TRY(Send(batch, NLM_F_ACK));
  LN_TRY(Receive(
      batch,
      [&](const nlmsghdr* m) {
        if (m->nlmsg_type == RTM_NEWLINK) links[m->nlmsg_seq - first_sequence_] = ParseLink(m);
      },
      ENODEV));
  return links;
}

Result<std::optional<Link>> RouteSocket::RunAndFind(RouteBatch& batch, const std::string& name) {
  std::optional<Link> link;
  AskForLink(batch, name);
  LN_TRY(Send(batch, NLM_F_ACK));
  LN_TRY(Receive(batch, [&](const nlmsghdr* m) {
    if (m->nlmsg_type == RTM_NEWLINK) link = ParseLink(m);
  }));
  return link;
}

Result<std::vector<Link>> RouteSocket::ListLinks(const std::string& kind) {
  std::vector<Link> links;
  LN_TRY(Dump(
      [&](RouteBatch& batch) {
        batch.Begin(RTM_GETLINK, 0, "list links");
        batch.Extra<ifinfomsg>();
        if (!kind.empty()) {
          batch.Nest(IFLA_LINKINFO, [&] { batch.PutText(IFLA_INFO_KIND, kind); });
        }
        batch.PutU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
      },
      [&] { links.clear(); },
      [&](const nlmsghdr* m) {
        if (m->nlmsg_type == RTM_NEWLINK) links.push_back(ParseLink(m));
      }));
  return links;
}

Result<std::vector<LinkAddress>> RouteSocket::ListAddresses(std::uint32_t index) {
  std::vector<LinkAddress> addresses;
  LN_TRY(Dump(
      [&](RouteBatch& batch) {
        batch.Begin(RTM_GETADDR, 0, "list addresses");
        batch.Extra<ifaddrmsg>().ifa_index = index;
      },
      [&] { addresses.clear(); },
      [&](const nlmsghdr* m) {
        if (m->nlmsg_type != RTM_NEWADDR) return;
        const auto* info = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(m));
        const Attributes a = AttributesOf(m, sizeof(*info));
        // IFA_LOCAL is the own address of IPv4; IPv6 has IFA_ADDRESS alone.
        const auto ip = Ip(a[IFA_LOCAL] != nullptr ? a[IFA_LOCAL] : a[IFA_ADDRESS]);
        if (!ip || info->ifa_index != index) return;
        const std::uint32_t flags = a[IFA_FLAGS] != nullptr ? U32(a[IFA_FLAGS]) : info->ifa_flags;
        addresses.push_back({index, Cidr(*ip, info->ifa_prefixlen), (flags & IFA_F_TENTATIVE) != 0,
                             (flags & IFA_F_DADFAILED) != 0});
      }));
  return addresses;
}

Result<std::vector<LinkRoute>> RouteSocket::ListRoutes(std::uint32_t index) {
  std::vector<LinkRoute> routes;
  for (const Family family : {Family::kV4, Family::kV6}) {
    const std::size_t before = routes.size();
    LN_TRY(Dump(
        [&](RouteBatch& batch) {
          batch.Begin(RTM_GETROUTE, 0, "list routes");
          batch.Extra<rtmsg>().rtm_family = family == Family::kV4 ? AF_INET : AF_INET6;
          batch.PutU32(RTA_OIF, index);
        },
        [&] {
          routes.resize(before, LinkRoute{0, Cidr(IpAddress::V4(0), 0), {}, 0, 0, 0});
        },
        [&](const nlmsghdr* m) {
          if (m->nlmsg_type != RTM_NEWROUTE) return;
          const auto* info = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(m));
          const Attributes a = AttributesOf(m, sizeof(*info));
          if (info->rtm_type != RTN_UNICAST || U32(a[RTA_OIF]) != index) return;
          const IpAddress any = family == Family::kV4 ? IpAddress::V4(0) : IpAddress::V6({});
          routes.push_back({index, Cidr(Ip(a[RTA_DST]).value_or(any), info->rtm_dst_len),
                            Ip(a[RTA_GATEWAY]),
                            a[RTA_TABLE] != nullptr ? U32(a[RTA_TABLE]) : info->rtm_table,
                            U32(a[RTA_PRIORITY]), info->rtm_scope});
        }));
  }
  return routes;
}

Result<std::optional<Qdisc>> RouteSocket::FindQdisc(std::uint32_t index, std::uint32_t parent) {
  RouteBatch batch;
  batch.Begin(RTM_GETQDISC, 0, "look up a queueing discipline");
  auto& header = batch.Extra<tcmsg>();
  header.tcm_ifindex = static_cast<int>(index);
  header.tcm_parent = parent;
  std::optional<Qdisc> out;
  // Without ECHO the answer goes to the subscribers of RTNLGRP_TC only (net/sched/sch_api.c).
  LN_TRY(Send(batch, NLM_F_ACK | NLM_F_ECHO));
  auto done = Receive(batch, [&](const nlmsghdr* m) {
    if (m->nlmsg_type == RTM_NEWQDISC) out = ParseQdisc(m);
  });
  if (!done && (done.error().IsErrno(ENOENT) || done.error().IsErrno(ENODEV)))
    return std::optional<Qdisc>();
  if (!done) return std::move(done).error();
  return out;
}

Result<std::uint32_t> RouteSocket::RedirectOf(std::uint32_t index) {
  std::uint32_t target = 0;
  auto done = Dump(
      [&](RouteBatch& batch) {
        batch.Begin(RTM_GETTFILTER, 0, "list filters");
        auto& header = batch.Extra<tcmsg>();
        header.tcm_ifindex = static_cast<int>(index);
        header.tcm_parent = kIngressHandle;
      },
      [&] { target = 0; },
      [&](const nlmsghdr* m) {
        if (m->nlmsg_type != RTM_NEWTFILTER) return;
        if (const std::uint32_t to = ParseRedirect(m); to != 0) target = to;
      });
  if (!done) return std::move(done).error();
  return target;
}

Result<std::uint32_t> RouteSocket::LinkTowards(const IpAddress& ip) {
  RouteBatch batch;
  batch.Begin(RTM_GETROUTE, 0, "look up the route to " + ip.str());
  auto& header = batch.Extra<rtmsg>();
  header.rtm_family = AddressFamily(ip);
  header.rtm_dst_len = static_cast<std::uint8_t>(ip.bits());
  batch.Put(RTA_DST, ip.bytes());
  std::uint32_t index = 0;
  LN_TRY(Send(batch, NLM_F_ACK));
  LN_TRY(Receive(batch, [&](const nlmsghdr* m) {
    if (m->nlmsg_type == RTM_NEWROUTE) index = U32(AttributesOf(m, sizeof(rtmsg))[RTA_OIF]);
  }));
  if (index == 0) return NotFound("no route to " + ip.str());
  return index;
}

// --- RouteEvents

Result<RouteEvents> RouteEvents::Open(Group group) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!fd) return Error::FromErrno(errno, "open a route socket");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = group == Group::kLinks ? RTMGRP_LINK : RTMGRP_IPV6_IFADDR;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) < 0) {
    return Error::FromErrno(errno, "subscribe to route notifications");
  }
  return RouteEvents(std::move(fd));
}

Result<void> RouteEvents::Wait(Deadline deadline) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now())
            .count();
    if (left <= 0) return Error(Code::kDeadlineExceeded, "no notification in time");
    pollfd p{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&p, 1, static_cast<int>(std::min<std::int64_t>(left, 60000)));
    if (ready < 0 && errno != EINTR) return Error::FromErrno(errno, "wait for route notifications");
    if (ready <= 0) continue;
    std::array<char, 8192>
        buffer;  // NOLINT(cppcoreguidelines-init-variables): what is in it does not matter
    while (::recv(fd_.get(), buffer.data(), buffer.size(), 0) > 0) {
    }
    return Ok();
  }
}

}  // namespace linnet::network
