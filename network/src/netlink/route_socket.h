// rtnetlink: batches of requests in one send, and questions.
#pragma once

#include <linux/rtnetlink.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/ip.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "netlink/traffic_control.h"

struct nlmsghdr;
struct nlattr;

namespace linnet::network {

// Requests that go to the kernel in one sendmsg. Thread-compatible. Each message may hold 2 KiB.
class RouteBatch {
 public:
  // `what` names action and object for errors: "create veth lnabc".
  void Begin(std::uint16_t type, std::uint16_t flags, std::string what);
  // The fixed header after the netlink header (ifinfomsg, ifaddrmsg, …), zeroed. Valid until the
  // next Begin().
  template <class Header>
  Header& Extra() {
    return *static_cast<Header*>(ExtraBytes(sizeof(Header)));
  }
  void Put(std::uint16_t attribute, std::span<const std::uint8_t> bytes);
  void PutU8(std::uint16_t attribute, std::uint8_t value);
  void PutU16(std::uint16_t attribute, std::uint16_t value);
  void PutU32(std::uint16_t attribute, std::uint32_t value);
  void PutText(std::uint16_t attribute, const std::string& text);  // with its NUL
  // Nested attributes: `fill` puts what is inside.
  void Nest(std::uint16_t attribute, const std::function<void()>& fill);
  // A fixed header inside a nest (the peer's ifinfomsg of a veth).
  template <class Header>
  Header& Inner() {
    return *static_cast<Header*>(ExtraBytes(sizeof(Header)));
  }
  bool empty() const { return messages_.empty(); }
  std::size_t size() const { return messages_.size(); }

 private:
  friend class RouteSocket;
  nlmsghdr* current();
  void* ExtraBytes(std::size_t size);
  struct Message {
    std::size_t offset;
    std::string what;
  };
  std::vector<char> buffer_;
  std::vector<Message> messages_;
};

struct Link {
  std::uint32_t index = 0;
  std::string name, kind, alias;
  std::optional<MacAddress> mac;
  std::uint32_t mtu = 0, master = 0, peer = 0, promiscuity = 0, tx_queue_length = 0;
  bool up = false, running = false;
  bool promiscuous = false, all_multicast = false;  // asked for, by whoever
  // Of bridge ports.
  std::uint8_t port_state = 0;
  bool hairpin = false, isolated = false;
  // Of bridges.
  std::uint16_t default_pvid = 1;
};

struct LinkAddress {
  std::uint32_t index = 0;
  Cidr address;
  bool tentative = false, duplicate = false;  // IPv6 duplicate address detection
};

struct LinkRoute {
  std::uint32_t index = 0;
  Cidr dst;
  std::optional<IpAddress> gw;
  std::uint32_t table = 0, priority = 0;
  std::uint8_t scope = 0;
};

struct Qdisc {
  std::string kind;
  std::uint32_t handle = 0;
  std::optional<TokenBucket> token_bucket;  // of kind "tbf"
};

// A NETLINK_ROUTE socket of the namespace that it was opened in. Thread-compatible. Errors carry
// the kernel's explanation (NETLINK_EXT_ACK) and the errno.
class RouteSocket {
 public:
  // In the namespace of the calling thread.
  static Result<RouteSocket> Open();

  // Sends all, waits for the last answer; the first failure in the order of the batch is returned.
  // The kernel carries out the messages behind a failed one all the same.
  Result<void> Run(RouteBatch& batch);

  // ioctl of a network device in the socket's namespace; false: refused.
  bool Control(std::uint64_t request, void* argument) const;
  // 0: there is no such link.
  std::uint32_t IndexOf(const std::string& name) const;
  // Empty: there is none.
  std::string NameOf(std::uint32_t index) const;
  Result<std::optional<Link>> FindLink(const std::string& name);
  // In the order of `names`, in one exchange.
  Result<std::vector<std::optional<Link>>> FindLinks(const std::vector<std::string>& names);
  // Run(), and what `name` is like then, in one exchange. The link must be there.
  Result<std::optional<Link>> RunAndFind(RouteBatch& batch, const std::string& name);
  Result<std::optional<Link>> FindLink(std::uint32_t index);
  // All links; `kind` ("veth", "bridge") restricts it where not empty.
  Result<std::vector<Link>> ListLinks(const std::string& kind);
  Result<std::vector<LinkAddress>> ListAddresses(std::uint32_t index);
  // Unicast routes of all tables that leave through the link.
  Result<std::vector<LinkRoute>> ListRoutes(std::uint32_t index);
  // The queueing discipline below TC_H_ROOT or TC_H_INGRESS; nullopt: none of its own.
  Result<std::optional<Qdisc>> FindQdisc(std::uint32_t index, std::uint32_t parent);
  // The link to which a filter of the ingress discipline sends on what `index` receives; 0: none.
  Result<std::uint32_t> RedirectOf(std::uint32_t index);
  // The link over which packets to `ip` leave.
  Result<std::uint32_t> LinkTowards(const IpAddress& ip);

 private:
  explicit RouteSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  Result<void> Send(RouteBatch& batch, std::uint16_t flags_of_last);
  // Calls `use` for each answer. A dump that changed meanwhile: kUnavailable. A message that fails
  // with the errno `tolerated` is no failure.
  Result<void> Receive(RouteBatch& batch, const std::function<void(const nlmsghdr*)>& use,
                       int tolerated = 0);
  Result<void> Dump(const std::function<void(RouteBatch&)>& build,
                    const std::function<void()>& restart,
                    const std::function<void(const nlmsghdr*)>& use);

  UniqueFd fd_;
  std::uint32_t sequence_ = 1, first_sequence_ = 1;
};

// Notifications of the namespace that it was opened in. Ask for the state after Open() and again
// after each Wait().
class RouteEvents {
 public:
  enum class Group : std::uint8_t { kLinks, kAddresses6 };
  static Result<RouteEvents> Open(Group group);
  // Returns when something happened, or at the deadline (kDeadlineExceeded).
  Result<void> Wait(Deadline deadline);

 private:
  explicit RouteEvents(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace linnet::network
