// Addresses in use, in the files of the CNI plugin host-local (v1.x), so that both may share a
// directory:
//   <directory>/<address>             "<container id>\r\n<interface>", made with O_EXCL
//   <directory>/last_reserved_ip.<n>  the address given last from range set n
//   <directory>/lock                  flock'ed around every operation
//
// The directory is the truth, what this class remembers is a hint: making the file decides, a
// release reads the file before it unlinks. An empty file seen under the lock is a writer's that
// died: it counts as absent.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/ip.h"
#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/ipam/range.h"

namespace linnet::ipam {

struct LeaseKey {
  std::string container_id;
  std::string ifname;
  auto operator<=>(const LeaseKey&) const = default;
};

struct Lease {
  Cidr address;  // with the subnet's prefix length
  IpAddress gateway;
};

// Thread-safe. Operations block on the file lock, at most until `deadline` (kDeadlineExceeded).
class LeaseStore {
 public:
  // `directory` is made at the first Acquire (0755).
  explicit LeaseStore(std::string directory) : directory_(std::move(directory)) {}
  const std::string& directory() const { return directory_; }

  // One address of each set for `key`, all or none; an attachment that has one of a set already
  // gets the same again. `requested`: each set gives the first of these that it contains, all must
  // be given. Errors: kResourceExhausted a set is full (named in the message); kInvalidArgument a
  // requested address is a gateway or in no set; kAlreadyExists it is taken.
  Result<std::vector<Lease>> Acquire(const LeaseKey& key, const std::vector<RangeSet>& sets,
                                     const std::vector<IpAddress>& requested, Deadline deadline);
  // Unknown key, no directory: success.
  Result<void> Release(const LeaseKey& key, Deadline deadline);
  Result<bool> Holds(const LeaseKey& key, Deadline deadline);
  // Releases every address whose owner `keep` denies, and files without an owner. Returns how many.
  Result<std::size_t> Sweep(const std::function<bool(const LeaseKey&)>& keep, Deadline deadline);
  // Who has what, by address. No directory: nothing.
  struct Holder {
    IpAddress address;
    LeaseKey key;
  };
  Result<std::vector<Holder>> List(Deadline deadline);
  // Addresses of the set that are free, at most 2^63.
  Result<std::uint64_t> Free(const RangeSet& set, Deadline deadline);

 private:
  struct Opened {
    UniqueFd dir, lock;
    std::uint64_t lock_device = 0, lock_inode = 0;
  };
  // The lock is held for as long as this lives.
  class Locked {
   public:
    explicit Locked(const Opened& files) : files_(&files) {}
    Locked(Locked&& other) noexcept : files_(std::exchange(other.files_, nullptr)) {}
    Locked& operator=(Locked&&) = delete;
    ~Locked();
    const Opened& operator*() const { return *files_; }

   private:
    const Opened* files_;
  };
  enum class Missing : std::uint8_t { kMake, kFail };
  Result<Locked> OpenLocked(Missing missing, Deadline deadline) LN_REQUIRES(mu_);
  Result<Lease> AcquireOne(const Opened& at, const LeaseKey& key, const RangeSet& set,
                           std::size_t set_index, std::vector<IpAddress>& requested)
      LN_REQUIRES(mu_);
  Result<Lease> AcquireNext(const Opened& at, const LeaseKey& key, const RangeSet& set,
                            std::size_t set_index) LN_REQUIRES(mu_);
  // Whether the file is ours now; false: somebody else's.
  Result<bool> Claim(const Opened& at, const IpAddress& ip, const std::string& owner)
      LN_REQUIRES(mu_);
  // Addresses whose file names `key`; from the hints where they hold, else from the whole
  // directory.
  Result<std::vector<IpAddress>> Owned(const Opened& at, const LeaseKey& key) LN_REQUIRES(mu_);
  Result<void> ReadDirectory(const Opened& at) LN_REQUIRES(mu_);
  Result<void> Unlink(const Opened& at, const IpAddress& ip) LN_REQUIRES(mu_);
  void Remember(const IpAddress& ip, const std::string& owner) LN_REQUIRES(mu_);
  void Forget(const IpAddress& ip) LN_REQUIRES(mu_);

  Result<void> Open(Missing missing) LN_REQUIRES(mu_);
  // Whether the open lock is still the directory's.
  bool Current() const LN_REQUIRES(mu_);

  const std::string directory_;
  Mutex mu_;
  Opened opened_ LN_GUARDED_BY(mu_);  // kept from one operation to the next
  bool read_once_ LN_GUARDED_BY(mu_) = false;
  // Hints: address → contents of its file, and the way back.
  std::map<IpAddress, std::string> owner_of_ LN_GUARDED_BY(mu_);
  std::map<std::string, std::set<IpAddress>> owned_by_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::ipam
