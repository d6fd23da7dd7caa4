// Network namespaces: made, visited, pinned, pooled. The only place of the daemon that calls setns
// or unshare.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/ids.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "pod_side.h"

namespace linnet::network {

// What tells two namespaces apart, for as long as one of them lives.
struct NetnsId {
  std::uint64_t device = 0, inode = 0;
  auto operator<=>(const NetnsId&) const = default;
};

// A new, empty namespace (`lo` is down), by a thread that lives for it alone. Blocks about 0.5 ms.
Result<UniqueFd> NewNetns();

// Errors: kNotFound nothing is there, or something that is not a network namespace (a stale regular
// file, a symbolic link).
Result<UniqueFd> OpenNetns(const std::string& path);
// kFailedPrecondition where the descriptor is not a network namespace.
Result<NetnsId> IdentityOf(FdRef netns);
// The namespace that this process lives in.
Result<NetnsId> OwnNetns();

// Runs `visit` on a thread of its own inside the namespace and waits for it (about 40 µs). Sockets
// and /proc/sys/net files opened there keep acting on that namespace from any thread. `visit` must
// not throw.
Result<void> VisitNetns(FdRef netns, const std::function<Result<void>()>& visit);
// Many on one thread, one after another. `visit` is not called for what cannot be entered: `failed`
// is.
void VisitEachNetns(std::span<const FdRef> all, const std::function<void(std::size_t)>& visit,
                    const std::function<void(std::size_t, Error)>& failed);

// --- pins: <netns_dir>/linnet[-<instance>]-<pod>, bind mounts of the namespace (for CNI_NETNS and
// `ip netns exec`)

std::string PinPath(const std::string& netns_dir, std::string_view instance, std::string_view pod);
// Makes the directory where needed. What an earlier pod left at `path` is replaced. The mount is
// made private.
Result<void> Pin(const std::string& path, FdRef netns);
inline Result<UniqueFd> OpenPinned(const std::string& path) { return OpenNetns(path); }
// Absent: success. The kernel frees the namespace when its last holder goes.
Result<void> Unpin(const std::string& path);
// The pods pinned by this instance, sorted; stale files included. No directory: empty.
Result<std::vector<std::string>> ListPins(const std::string& netns_dir, std::string_view instance);

// A new namespace in which `lo` is up, and what was opened in it on the way.
struct ReadyNetns {
  UniqueFd fd;
  std::unique_ptr<PodSide> side;  // never nullptr
};

// Keeps `size` ready namespaces; a thread refills it in the background. Thread-safe.
class NetnsPool {
 public:
  explicit NetnsPool(int size);
  NetnsPool(const NetnsPool&) = delete;
  NetnsPool& operator=(const NetnsPool&) = delete;
  ~NetnsPool();  // waits for a namespace that is being made (0.5 ms)
  // A ready one, else a new one.
  Result<ReadyNetns> Take();
  // What the kernel takes for one, roughly: slab and per-CPU memory of 50 new ones, Linux 6.18 with
  // two CPUs.
  static constexpr std::uint64_t kBytesEach = 190U << 10U;
  // Namespaces that are ready now.
  std::size_t ready() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace linnet::network
