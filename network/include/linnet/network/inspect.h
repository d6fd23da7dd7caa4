// What operators see of the network: `linnet network dump`, `linnet ipam ls`, `linnet doctor`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace linnet::network {

struct AttachmentView {
  enum class State : std::uint8_t {
    kAttaching,  // ADD is under way, or died
    kAttached,
    kDetaching,  // a foreign plugin failed its DEL, which is tried again; the address is
                 // quarantined
  };
  std::string pod, network, interface_name;
  State state = State::kAttached;
  std::string netns;                    // path
  std::string host_link;                // "lnabcd…"; empty: not made by linnet
  std::vector<std::string> addresses;   // "10.83.0.2/32"
  std::vector<std::string> host_ports;  // "8080/tcp -> 10.83.0.2:80"
  std::string error;                    // of kDetaching: why the last DEL failed
};

// A set or map of linnet's tables, as the kernel has it.
struct TableSetView {
  struct Element {
    std::string text;   // "tcp . 8080 : 10.83.0.2 . 80"
    std::string owner;  // "<pod>/<interface>/<network>", "@<bridge>"
  };
  std::string table;  // "inet linnet"
  std::string name;
  std::vector<Element> elements;
};

struct NetworkView {
  std::string network, source;  // that new pods get
  bool ready = false;
  std::string message;
  std::vector<AttachmentView> attachments;  // by pod
  std::vector<TableSetView> sets;           // those with elements
  // Ready network namespaces; what one takes of the kernel's memory, roughly.
  std::uint32_t pool_size = 0, pool_ready = 0;
  std::uint64_t pool_bytes_each = 0;
};

struct AddressView {
  enum class Owner : std::uint8_t {
    kAttached,     // a pod of this daemon
    kQuarantined,  // a pod of this daemon whose DEL is tried again
    kOther,        // another runtime's, which has a record of it in the same cache
    kNobody,       // no record tells of it: `linnet network gc` frees it where the network is ours
  };
  std::string network, address, container, interface_name;
  Owner owner = Owner::kNobody;
};

struct Finding {
  enum class Level : std::uint8_t { kOk, kWarning, kProblem };
  Level level = Level::kOk;
  std::string subject;  // "kernel", "network", "pod 3f2a…"
  std::string text;     // what is so, and for all but kOk what to do
};

struct PodCheck {
  std::string pod, network;
  std::string error;  // empty: all is as it should be
};

}  // namespace linnet::network
