// No code of the engine on purpose: this is what it is compared with.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include <libmnl/libmnl.h>

#include "linnet/base/file.h"

#include "driver.h"

namespace linnet::bench {
namespace {

constexpr const char* kBridge = "floor0";
constexpr const char* kTable = "bench_floor";
constexpr std::uint8_t kInet =
    1;  // NFPROTO_INET: linux/netfilter.h and netinet/in.h exclude each other
constexpr std::uint32_t kGateway = 0x0a650001;  // 10.101.0.1/16

// The elements that linnet's chain makes for a pod with one host port, in maps of the same types.
constexpr const char* kRules =
    "nft -f - <<'R'\n"
    "table inet bench_floor {\n"
    "  map hostport4 { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
    "  set hairpin4 { type ipv4_addr . ipv4_addr; }\n"
    "  set masq { type ipv4_addr; }\n"
    "}\n"
    "R";

struct Messages {
  alignas(nlmsghdr) std::array<char, 8192> bytes{};
  std::size_t size = 0;
  std::uint32_t sequence = 1;
  nlmsghdr* last = nullptr;

  nlmsghdr* Begin(int type, int flags) {
    if (last != nullptr) size += MNL_ALIGN(last->nlmsg_len);
    last = mnl_nlmsg_put_header(&bytes[size]);
    last->nlmsg_type = static_cast<std::uint16_t>(type);
    last->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    last->nlmsg_seq = sequence++;
    return last;
  }
  template <class Header>
  Header* Extra() {
    return static_cast<Header*>(mnl_nlmsg_put_extra_header(last, sizeof(Header)));
  }
  std::size_t length() const { return size + last->nlmsg_len; }
};

Result<UniqueFd> OpenSocket(int protocol) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!fd) return Error::FromErrno(errno, "netlink socket");
  return fd;
}

// Only the last message asks for an answer; a failed one answers all the same.
Result<void> Exchange(FdRef fd, Messages& messages, const char* what) {
  if (::send(fd.get(), messages.bytes.data(), messages.length(), 0) < 0)
    return Error::FromErrno(errno, what);
  alignas(nlmsghdr) std::array<char, 8192> answer{};
  for (;;) {
    const ssize_t got = ::recv(fd.get(), answer.data(), answer.size(), 0);
    if (got < 0) return Error::FromErrno(errno, what);
    int left = static_cast<int>(got);
    for (const auto* m = reinterpret_cast<const nlmsghdr*>(answer.data()); mnl_nlmsg_ok(m, left);
         m = mnl_nlmsg_next(m, &left)) {
      if (m->nlmsg_type != NLMSG_ERROR) continue;
      const auto* error = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(m));
      if (error->error != 0) return Error::FromErrno(-error->error, what);
      return Ok();
    }
  }
}

struct Attached {
  std::uint32_t address = 0, number = 0;
  std::uint16_t port = 0, pod_port = 0;
};

void PutMac(nlmsghdr* m, std::uint32_t number, std::uint8_t side) {
  std::array<std::uint8_t, 6> mac = {0x02, side, 0, 0, 0, 0};
  std::memcpy(&mac[2], &number, 4);
  mnl_attr_put(m, IFLA_ADDRESS, mac.size(), mac.data());
}

std::string HostName(std::uint32_t number) { return "bf" + std::to_string(number); }

class FloorDriver final : public Driver {
 public:
  Result<void> SetUp() {
    route_ = LN_TRY(OpenSocket(NETLINK_ROUTE));
    nft_ = LN_TRY(OpenSocket(NETLINK_NETFILTER));
    home_ = LN_TRY(Open("/proc/thread-self/ns/net", O_RDONLY));
    const std::string bridge = std::string("ip link add ") + kBridge +
                               " type bridge && ip addr add 10.101.0.1/16 dev " + kBridge +
                               " && ip link set " + kBridge + " up && ";
    if (std::system((bridge + kRules).c_str()) != 0) return Internal("floor: ip or nft failed");
    master_ = ::if_nametoindex(kBridge);
    return Ok();
  }
  ~FloorDriver() override {
    const std::string command =
        std::string("ip link del ") + kBridge + "; nft delete table inet " + kTable;
    if (std::system(command.c_str()) != 0) std::perror(command.c_str());
  }

  Result<std::string> Add(const PodSpec& pod) override {
    const std::lock_guard lock(mu_);
    Attached a;
    a.number = ++last_;
    a.address = kGateway + a.number;
    a.port = pod.ports.empty() ? 0 : pod.ports.front().host_port;
    a.pod_port = pod.ports.empty() ? 0 : pod.ports.front().pod_port;
    LN_TRY(MakeLink(a, pod.netns));
    LN_TRY(SetUpPod(a, pod.netns));
    LN_TRY(Elements(NFT_MSG_NEWSETELEM, a));
    attached_[pod.id] = a;
    std::array<char, INET_ADDRSTRLEN> text{};
    const in_addr address{htonl(a.address)};
    ::inet_ntop(AF_INET, &address, text.data(), text.size());
    return std::string(text.data());
  }
  Result<void> Check(const PodSpec&) override { return Ok(); }
  Result<void> Del(const PodSpec& pod) override {
    const std::lock_guard lock(mu_);
    const auto found = attached_.find(pod.id);
    if (found == attached_.end()) return Ok();
    const Attached a = found->second;
    attached_.erase(found);
    LN_TRY(Elements(NFT_MSG_DELSETELEM, a));
    Messages m;
    m.Begin(RTM_DELLINK, NLM_F_ACK);
    m.Extra<ifinfomsg>();
    mnl_attr_put_strz(m.last, IFLA_IFNAME, HostName(a.number).c_str());
    return Exchange(route_, m, "delete link");
  }

 private:
  Result<void> MakeLink(const Attached& a, FdRef netns) {
    Messages m;
    m.Begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    m.Extra<ifinfomsg>();
    mnl_attr_put_strz(m.last, IFLA_IFNAME, HostName(a.number).c_str());
    PutMac(m.last, a.number, 1);
    mnl_attr_put_u32(m.last, IFLA_MASTER, master_);
    nlattr* info = mnl_attr_nest_start(m.last, IFLA_LINKINFO);
    mnl_attr_put_strz(m.last, IFLA_INFO_KIND, "veth");
    nlattr* data = mnl_attr_nest_start(m.last, IFLA_INFO_DATA);
    nlattr* peer = mnl_attr_nest_start(m.last, VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(m.last, sizeof(ifinfomsg));
    mnl_attr_put_strz(m.last, IFLA_IFNAME, "eth0");
    PutMac(m.last, a.number, 2);
    mnl_attr_put_u32(m.last, IFLA_NET_NS_FD, static_cast<std::uint32_t>(netns.get()));
    mnl_attr_nest_end(m.last, peer);
    mnl_attr_nest_end(m.last, data);
    mnl_attr_nest_end(m.last, info);
    m.Begin(RTM_NEWLINK, NLM_F_ACK);
    auto* up = m.Extra<ifinfomsg>();
    up->ifi_flags = IFF_UP;
    up->ifi_change = IFF_UP;
    mnl_attr_put_strz(m.last, IFLA_IFNAME, HostName(a.number).c_str());
    return Exchange(route_, m, "create veth");
  }

  Result<void> SetUpPod(const Attached& a, FdRef netns) {
    // This thread goes in and comes back: a program that does nothing else may.
    if (::setns(netns.get(), CLONE_NEWNET) < 0) return Error::FromErrno(errno, "enter the pod");
    auto socket = OpenSocket(NETLINK_ROUTE);
    const std::uint32_t index = ::if_nametoindex("eth0");
    if (::setns(home_.get(), CLONE_NEWNET) < 0) std::abort();
    const UniqueFd fd = LN_TRY(std::move(socket));
    Messages m;
    m.Begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
    auto* address = m.Extra<ifaddrmsg>();
    address->ifa_family = AF_INET;
    address->ifa_prefixlen = 16;
    address->ifa_index = index;
    mnl_attr_put_u32(m.last, IFA_LOCAL, htonl(a.address));
    mnl_attr_put_u32(m.last, IFA_ADDRESS, htonl(a.address));
    m.Begin(RTM_NEWLINK, 0);
    auto* up = m.Extra<ifinfomsg>();
    up->ifi_index = static_cast<int>(index);
    up->ifi_flags = IFF_UP;
    up->ifi_change = IFF_UP;
    m.Begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
    auto* route = m.Extra<rtmsg>();
    route->rtm_family = AF_INET;
    route->rtm_table = RT_TABLE_MAIN;
    route->rtm_protocol = RTPROT_BOOT;
    route->rtm_type = RTN_UNICAST;
    mnl_attr_put_u32(m.last, RTA_GATEWAY, htonl(kGateway));
    return Exchange(fd, m, "set up eth0");
  }

  static void PutElement(Messages& m, int type, const char* set, std::string_view key,
                         std::string_view data) {
    m.Begin((NFNL_SUBSYS_NFTABLES << 8) | type, type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0);
    m.Extra<nfgenmsg>()->nfgen_family = kInet;
    mnl_attr_put_strz(m.last, NFTA_SET_ELEM_LIST_TABLE, kTable);
    mnl_attr_put_strz(m.last, NFTA_SET_ELEM_LIST_SET, set);
    nlattr* list = mnl_attr_nest_start(m.last, NFTA_SET_ELEM_LIST_ELEMENTS);
    nlattr* one = mnl_attr_nest_start(m.last, NFTA_LIST_ELEM);
    nlattr* nest = mnl_attr_nest_start(m.last, NFTA_SET_ELEM_KEY);
    mnl_attr_put(m.last, NFTA_DATA_VALUE, key.size(), key.data());
    mnl_attr_nest_end(m.last, nest);
    if (!data.empty()) {
      nest = mnl_attr_nest_start(m.last, NFTA_SET_ELEM_DATA);
      mnl_attr_put(m.last, NFTA_DATA_VALUE, data.size(), data.data());
      mnl_attr_nest_end(m.last, nest);
    }
    mnl_attr_nest_end(m.last, one);
    mnl_attr_nest_end(m.last, list);
  }

  Result<void> Elements(int type, const Attached& a) {
    const std::uint32_t address = htonl(a.address);
    const std::string ip(reinterpret_cast<const char*>(&address), sizeof(address));
    const auto port = [](std::uint16_t value) {
      std::string out(4, '\0');
      out[0] = static_cast<char>(value >> 8);
      out[1] = static_cast<char>(value & 0xff);
      return out;
    };
    std::string key(4, '\0');
    key[0] = IPPROTO_TCP;
    Messages m;
    m.Begin(NFNL_MSG_BATCH_BEGIN, 0);
    m.Extra<nfgenmsg>()->res_id = htons(NFNL_SUBSYS_NFTABLES);
    PutElement(m, type, "masq", ip, {});
    if (a.port != 0) {
      PutElement(m, type, "hairpin4", ip + ip, {});
      PutElement(m, type, "hostport4", key + port(a.port), ip + port(a.pod_port));
    }
    m.last->nlmsg_flags = static_cast<std::uint16_t>(m.last->nlmsg_flags | NLM_F_ACK);
    m.Begin(NFNL_MSG_BATCH_END, 0);
    m.Extra<nfgenmsg>()->res_id = htons(NFNL_SUBSYS_NFTABLES);
    return Exchange(nft_, m, "nftables");
  }

  std::mutex mu_;
  UniqueFd route_, nft_, home_;
  std::uint32_t master_ = 0, last_ = 0;
  std::map<std::string, Attached> attached_;
};

}  // namespace

Result<std::unique_ptr<Driver>> MakeFloorDriver(const DriverOptions&) {
  auto driver = std::make_unique<FloorDriver>();
  LN_TRY(driver->SetUp());
  return std::unique_ptr<Driver>(std::move(driver));
}

}  // namespace linnet::bench
