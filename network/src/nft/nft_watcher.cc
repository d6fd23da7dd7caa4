#include "nft/nft_watcher.h"

// Before linux/in.h, which steps back for it (linux/libc-compat.h); not the other way round.
// clang-format off
#include <netinet/in.h>
// clang-format on

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include <libmnl/libmnl.h>

#include "linnet/base/unique_fd.h"

#include "netlink/attributes.h"
#include "nft/nft_batch.h"

namespace linnet::network {
namespace {

using Steady = std::chrono::steady_clock;
using std::chrono_literals::operator""ms;

// Somebody who deletes our table in a loop must not have us build it in a loop; iptables-restore of
// a big ruleset is one change.
constexpr auto kPauseOurs = 100ms;
constexpr auto kPauseFilter = 1000ms;
constexpr int kReceiveBytes = 1 << 20;

constexpr std::uint16_t TypeOf(int message) {
  return static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message);
}

// Notifications that begin with a new element or a new generation tell nothing: pods come, other
// programs fill their sets. The kernel does not wake us for them.
Result<void> IgnoreNewElements(FdRef fd) {
  // BPF reads in network order what the kernel wrote in its own.
  const auto code = [](int message) { return std::uint32_t{htons(TypeOf(message))}; };
  std::array<sock_filter, 5> program = {
      {BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(nlmsghdr, nlmsg_type)),
       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, code(NFT_MSG_NEWSETELEM), 2, 0),
       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, code(NFT_MSG_NEWGEN), 1, 0),
       BPF_STMT(BPF_RET | BPF_K, 0xffffffff), BPF_STMT(BPF_RET | BPF_K, 0)}};
  const sock_fprog filter{.len = program.size(), .filter = program.data()};
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0)
    return Error::FromErrno(errno, "filter nftables notifications");
  return Ok();
}

Result<UniqueFd> Subscribe() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER));
  if (!fd) return Error::FromErrno(errno, "open an nftables socket");
  LN_TRY(IgnoreNewElements(fd));
  // A big ruleset that is flushed makes many messages; what does not fit is noticed, too.
  const int size = kReceiveBytes;
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
  sockaddr_nl name{};
  name.nl_family = AF_NETLINK;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) < 0)
    return Error::FromErrno(errno, "bind an nftables socket");
  const int group = NFNLGRP_NFTABLES;
  if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
    return Error::FromErrno(errno, "subscribe to nftables notifications");
  return fd;
}

bool Deletes(std::uint16_t type) {
  switch (type) {
    case TypeOf(NFT_MSG_DELTABLE):
    case TypeOf(NFT_MSG_DELCHAIN):
    case TypeOf(NFT_MSG_DELRULE):
    case TypeOf(NFT_MSG_DELSET):
    case TypeOf(NFT_MSG_DELSETELEM):
      return true;
    default:
      return false;
  }
}

bool ChangesRules(std::uint16_t type) { return Deletes(type) || type == TypeOf(NFT_MSG_NEWCHAIN); }

}  // namespace

struct NftWatcher::State {
  std::string table;
  std::function<std::uint32_t()> own_port;
  std::function<void(What)> changed;
  UniqueFd socket, wake;
  std::thread thread;

  struct Work {
    std::chrono::milliseconds pause;
    bool pending = false;
    Steady::time_point last{};
  };
  Work ours{.pause = kPauseOurs}, filter{.pause = kPauseFilter};

  void Look(const nlmsghdr* m);
  void Read();
  void Loop();
};

void NftWatcher::State::Look(const nlmsghdr* m) {
  if (m->nlmsg_len < NLMSG_HDRLEN + sizeof(nfgenmsg)) return;
  const auto* header = static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(m));
  // The name of the table is attribute 1 of every kind of message.
  static_assert(NFTA_TABLE_NAME == 1 && NFTA_CHAIN_TABLE == 1 && NFTA_RULE_TABLE == 1 &&
                NFTA_SET_TABLE == 1 && NFTA_SET_ELEM_LIST_TABLE == 1);
  const nlattr* a = AttributesOf(m, sizeof(nfgenmsg))[NFTA_TABLE_NAME];
  if (a == nullptr || mnl_attr_get_payload_len(a) == 0) return;
  std::string_view name(static_cast<const char*>(mnl_attr_get_payload(a)),
                        mnl_attr_get_payload_len(a));
  name = name.substr(0, name.find('\0'));
  const auto family = static_cast<NftFamily>(header->nfgen_family);
  if (family == NftFamily::kInet || family == NftFamily::kBridge) {
    if (name == table && Deletes(m->nlmsg_type) && m->nlmsg_pid != own_port()) ours.pending = true;
  } else if (name == "filter" && ChangesRules(m->nlmsg_type)) {
    filter.pending = true;
  }
}

void NftWatcher::State::Read() {
  std::vector<char> buffer(65536);
  for (;;) {
    const ssize_t got = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ENOBUFS) {
      ours.pending = filter.pending = true;
      continue;
    }
    if (got <= 0) return;
    int left = static_cast<int>(got);
    for (const auto* m = reinterpret_cast<const nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(m, left);
         m = mnl_nlmsg_next(m, &left))
      Look(m);
  }
}

void NftWatcher::State::Loop() {
  (void)::pthread_setname_np(::pthread_self(), "ln-nftwatch");
  for (;;) {
    const auto now = Steady::now();
    int wait_ms = -1;
    for (Work* work : {&ours, &filter}) {
      if (!work->pending) continue;
      const auto due = work->last + work->pause;
      if (due > now) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(due - now).count();
        wait_ms = wait_ms < 0 ? static_cast<int>(left) : std::min(wait_ms, static_cast<int>(left));
        continue;
      }
      work->pending = false;
      changed(work == &ours ? What::kOurs : What::kFilter);
      work->last = Steady::now();
    }
    std::array<pollfd, 2> wait = {{{.fd = socket.get(), .events = POLLIN, .revents = 0},
                                   {.fd = wake.get(), .events = POLLIN, .revents = 0}}};
    if (::poll(wait.data(), wait.size(), wait_ms) < 0 && errno != EINTR) return;
    if (wait[1].revents != 0) return;
    if (wait[0].revents != 0) Read();
  }
}

NftWatcher::NftWatcher(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<NftWatcher>> NftWatcher::Create(std::string table,
                                                       std::function<std::uint32_t()> own_port,
                                                       std::function<void(What)> changed) {
  auto state = std::make_unique<State>();
  state->table = std::move(table);
  state->own_port = std::move(own_port);
  state->changed = std::move(changed);
  state->socket = LN_TRY(Subscribe());
  state->wake.Reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!state->wake) return Error::FromErrno(errno, "eventfd");
  state->thread = std::thread([raw = state.get()] { raw->Loop(); });
  return std::unique_ptr<NftWatcher>(new NftWatcher(std::move(state)));
}

NftWatcher::~NftWatcher() {
  const std::uint64_t one = 1;
  (void)!::write(state_->wake.get(), &one, sizeof one);  // refused only when it is readable already
  if (state_->thread.joinable()) state_->thread.join();
}

}  // namespace linnet::network
