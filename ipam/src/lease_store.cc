#include "linnet/ipam/lease_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::ipam {
namespace {

constexpr std::size_t kMaxOwnerBytes = 4096;

std::string OwnerText(const LeaseKey& key) { return key.container_id + "\r\n" + key.ifname; }

// Files of host-local before 0.7 hold the container id alone: they match any interface.
bool IsOwner(std::string_view contents, const LeaseKey& key) {
  const std::string_view text = Trim(contents);
  return text == OwnerText(key) || text == key.container_id;
}

LeaseKey ParseOwner(std::string_view contents) {
  const std::string_view text = Trim(contents);
  const std::size_t end = text.find("\r\n");
  if (end == std::string_view::npos) return {std::string(text), {}};
  return {std::string(text.substr(0, end)), std::string(text.substr(end + 2))};
}

// nullopt: absent.
Result<std::optional<std::string>> ReadIfThere(FdRef dir, const std::string& name) {
  auto text = ReadFileAt(dir, name, kMaxOwnerBytes);
  if (text) return std::optional(*std::move(text));
  if (text.error().IsErrno(ENOENT)) return std::optional<std::string>();
  return std::move(text).error();
}

// The file that says which address of a set was given last.
class LastReserved {
 public:
  static Result<LastReserved> Open(FdRef dir, const std::string& name) {
    LastReserved out;
    out.file_ = LN_TRY(OpenAt(dir, name, O_RDWR | O_CREAT, 0600));
    std::array<char, kLongestAddress + 1> buffer{};
    const ssize_t got = ::pread(out.file_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0) return Error::FromErrno(errno, "read " + name);
    out.size_ = static_cast<std::size_t>(got);
    const auto ip = IpAddress::Parse(Trim({buffer.data(), out.size_}));
    if (ip) out.address_ = *ip;
    return out;
  }
  const std::optional<IpAddress>& address() const { return address_; }

  // In place: O_TRUNC makes ext4 write the old blocks out, which costs as much as all the rest.
  Result<void> Set(const IpAddress& ip) const {
    const std::string text = ip.str();
    if (::pwrite(file_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
      return Error::FromErrno(errno, "write the address given last");
    if (size_ > text.size() && ftruncate(file_.get(), static_cast<off_t>(text.size())) != 0)
      return Error::FromErrno(errno, "truncate the address given last");
    return Ok();
  }

 private:
  static constexpr std::size_t kLongestAddress = 64;  // INET6_ADDRSTRLEN is 46
  UniqueFd file_;
  std::size_t size_ = 0;
  std::optional<IpAddress> address_;
};

std::string LastName(std::size_t set_index) {
  return "last_reserved_ip." + std::to_string(set_index);
}

}  // namespace

LeaseStore::Locked::~Locked() {
  if (files_ != nullptr) (void)flock(files_->lock.get(), LOCK_UN);  // cannot fail on a lock held
}

Result<void> LeaseStore::Open(Missing missing) {
  opened_ = {};
  auto dir = OpenDir(directory_);
  if (!dir && dir.error().IsErrno(ENOENT) && missing == Missing::kMake) {
    LN_TRY(MakeDirs(directory_, 0755));
    dir = OpenDir(directory_);
  }
  Opened out;
  out.dir = LN_TRY(std::move(dir));
  out.lock = LN_TRY(OpenAt(out.dir, "lock", O_RDONLY | O_CREAT, 0600));
  struct stat st {};
  if (fstat(out.lock.get(), &st) != 0)
    return Error::FromErrno(errno, "stat the lock of " + directory_);
  out.lock_device = st.st_dev;
  out.lock_inode = st.st_ino;
  opened_ = std::move(out);
  return Ok();
}

bool LeaseStore::Current() const {
  struct stat st {};
  const std::string path = JoinPath(directory_, "lock");
  return stat(path.c_str(), &st) == 0 && st.st_dev == opened_.lock_device &&
         st.st_ino == opened_.lock_inode;
}

Result<LeaseStore::Locked> LeaseStore::OpenLocked(Missing missing, Deadline deadline) {
  if (!opened_.lock) LN_TRY(Open(missing));
  // flock has no time limit of its own. Threads of this process wait for mu_, so what is waited for
  // here is another program's operation of less than a millisecond.
  auto pause = std::chrono::microseconds(100);
  for (;;) {
    if (flock(opened_.lock.get(), LOCK_EX | LOCK_NB) == 0) {
      if (Current()) return Locked(opened_);
      LN_TRY(Open(missing));  // the directory was replaced: closing gives the old lock back
      continue;
    }
    if (errno != EWOULDBLOCK && errno != EINTR)
      return Error::FromErrno(errno, "lock " + directory_);
    if (std::chrono::steady_clock::now() >= deadline) {
      return Error(Code::kDeadlineExceeded, "another process holds the lock of " + directory_);
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(10'000));
  }
}

void LeaseStore::Remember(const IpAddress& ip, const std::string& owner) {
  Forget(ip);
  owner_of_[ip] = owner;
  owned_by_[owner].insert(ip);
}

void LeaseStore::Forget(const IpAddress& ip) {
  const auto it = owner_of_.find(ip);
  if (it == owner_of_.end()) return;
  const auto owned = owned_by_.find(it->second);
  if (owned != owned_by_.end()) {
    owned->second.erase(ip);
    if (owned->second.empty()) owned_by_.erase(owned);
  }
  owner_of_.erase(it);
}

Result<void> LeaseStore::ReadDirectory(const Opened& at) {
  owner_of_.clear();
  owned_by_.clear();
  read_once_ = true;
  for (const std::string& name : LN_TRY(ListDirAt(at.dir))) {
    const auto ip = IpAddress::Parse(name);
    if (!ip) continue;
    const std::optional<std::string> contents = LN_TRY(ReadIfThere(at.dir, name));
    if (contents && !Trim(*contents).empty()) Remember(*ip, std::string(Trim(*contents)));
  }
  return Ok();
}

Result<void> LeaseStore::Unlink(const Opened& at, const IpAddress& ip) {
  const std::string name = ip.str();
  if (unlinkat(at.dir.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
    return Error::FromErrno(errno, "unlink " + JoinPath(directory_, name));
  }
  Forget(ip);
  return Ok();
}

Result<bool> LeaseStore::Claim(const Opened& at, const IpAddress& ip, const std::string& owner) {
  const std::string name = ip.str();
  auto file = OpenAt(at.dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (!file && !file.error().IsErrno(EEXIST)) return std::move(file).error();
  if (!file) {
    const std::optional<std::string> contents = LN_TRY(ReadIfThere(at.dir, name));
    if (!contents || !Trim(*contents).empty()) {
      if (contents) Remember(ip, std::string(Trim(*contents)));
      return false;
    }
    file = OpenAt(at.dir, name, O_WRONLY, 0600);
    if (!file) return std::move(file).error();
  }
  Remember(ip, owner);
  auto written = WriteAll(*file, owner);
  if (!written) {
    (void)Unlink(at, ip);  // what stays is an empty file: the next one takes it
    return std::move(written).error();
  }
  return true;
}

Result<Lease> LeaseStore::AcquireNext(const Opened& at, const LeaseKey& key, const RangeSet& set,
                                      std::size_t set_index) {
  const LastReserved last = LN_TRY(LastReserved::Open(at.dir, LastName(set_index)));
  const std::string owner = OwnerText(key);
  // The hints spare the attempts on addresses known as taken. They may be wrong both ways: before
  // "full" is said, the directory itself is asked.
  for (const bool fresh : {false, true}) {
    if (fresh) LN_TRY(ReadDirectory(at));
    RoundRobin round(set, last.address());
    // A set of 2^64 addresses is never gone round: what is taken is what has a file.
    while (const auto candidate = round.Next()) {
      if (owner_of_.contains(candidate->ip)) continue;
      if (!LN_TRY(Claim(at, candidate->ip, owner))) continue;
      LN_TRY(last.Set(candidate->ip));
      return Lease{Cidr(candidate->ip, candidate->range->subnet().prefix()),
                   candidate->range->gateway()};
    }
  }
  return Error(Code::kResourceExhausted,
               "failed to allocate for range " + std::to_string(set_index) +
                   ": no IP addresses available in range set: " + set.str());
}

Result<Lease> LeaseStore::AcquireOne(const Opened& at, const LeaseKey& key, const RangeSet& set,
                                     std::size_t set_index, std::vector<IpAddress>& requested) {
  const auto wanted = std::find_if(requested.begin(), requested.end(), [&](const IpAddress& ip) {
    return std::any_of(set.ranges().begin(), set.ranges().end(),
                       [&](const Range& r) { return r.subnet().Contains(ip); });
  });
  if (wanted != requested.end()) {
    const IpAddress ip = *wanted;
    requested.erase(wanted);
    const Range* range = set.Find(ip);
    if (range == nullptr)
      return InvalidArgument("requested IP address " + ip.str() + " is not in range set " +
                             set.str());
    if (ip == range->gateway())
      return InvalidArgument("requested ip " + ip.str() + " is subnet's gateway");
    if (!LN_TRY(Claim(at, ip, OwnerText(key))) && !IsOwner(owner_of_[ip], key)) {
      return AlreadyExists("requested IP address " + ip.str() + " is not available in range set " +
                           set.str());
    }
    return Lease{Cidr(ip, range->subnet().prefix()), range->gateway()};
  }
  return AcquireNext(at, key, set, set_index);
}

Result<std::vector<Lease>> LeaseStore::Acquire(const LeaseKey& key,
                                               const std::vector<RangeSet>& sets,
                                               const std::vector<IpAddress>& requested,
                                               Deadline deadline) {
  MutexLock lock(mu_);
  const Locked locked = LN_TRY(OpenLocked(Missing::kMake, deadline));
  const Opened& at = *locked;
  if (!read_once_) LN_TRY(ReadDirectory(at));  // what an earlier process gave to this key
  std::vector<IpAddress> before;
  if (const auto it = owned_by_.find(OwnerText(key)); it != owned_by_.end())
    before.assign(it->second.begin(), it->second.end());
  std::vector<IpAddress> left = requested;
  std::vector<Lease> leases;
  const auto give_back = [&] {
    for (const Lease& lease : leases) {
      const IpAddress& ip = lease.address.address();
      if (std::find(before.begin(), before.end(), ip) == before.end())
        (void)Unlink(at, ip);  // a stray file is swept later
    }
  };
  for (std::size_t i = 0; i < sets.size(); ++i) {
    const auto held = std::find_if(before.begin(), before.end(), [&](const IpAddress& ip) {
      return sets[i].Find(ip) != nullptr;
    });
    if (held != before.end()) {
      const auto contents = LN_TRY(ReadIfThere(at.dir, held->str()));
      if (contents && IsOwner(*contents, key)) {
        leases.push_back(
            {Cidr(*held, sets[i].Find(*held)->subnet().prefix()), sets[i].Find(*held)->gateway()});
        std::erase(left, *held);
        continue;
      }
      Forget(*held);
    }
    auto lease = AcquireOne(at, key, sets[i], i, left);
    if (!lease) {
      give_back();
      return std::move(lease).error();
    }
    leases.push_back(*std::move(lease));
  }
  if (!left.empty()) {
    give_back();
    std::string list;
    for (const IpAddress& ip : left) list += " " + ip.str();
    return InvalidArgument("failed to allocate all requested IPs:" + list);
  }
  return leases;
}

Result<std::vector<IpAddress>> LeaseStore::Owned(const Opened& at, const LeaseKey& key) {
  std::vector<IpAddress> out;
  for (const std::string& text : {OwnerText(key), key.container_id}) {
    const auto it = owned_by_.find(text);
    if (it == owned_by_.end()) continue;
    const std::set<IpAddress> hinted = it->second;
    for (const IpAddress& ip : hinted) {
      const auto contents = LN_TRY(ReadIfThere(at.dir, ip.str()));
      if (contents && IsOwner(*contents, key)) {
        out.push_back(ip);
      } else {
        Forget(ip);
      }
    }
  }
  if (!out.empty()) return out;
  LN_TRY(ReadDirectory(at));
  for (const auto& [ip, owner] : owner_of_) {
    if (IsOwner(owner, key)) out.push_back(ip);
  }
  return out;
}

Result<void> LeaseStore::Release(const LeaseKey& key, Deadline deadline) {
  MutexLock lock(mu_);
  auto locked = OpenLocked(Missing::kFail, deadline);
  if (!locked && locked.error().IsErrno(ENOENT)) return Ok();
  if (!locked) return std::move(locked).error();
  const Opened& at = **locked;
  Result<void> first;
  for (const IpAddress& ip : LN_TRY(Owned(at, key))) {
    auto gone = Unlink(at, ip);
    if (!gone && first) first = std::move(gone);
  }
  return first;
}

Result<bool> LeaseStore::Holds(const LeaseKey& key, Deadline deadline) {
  MutexLock lock(mu_);
  auto locked = OpenLocked(Missing::kFail, deadline);
  if (!locked && locked.error().IsErrno(ENOENT)) return false;
  if (!locked) return std::move(locked).error();
  const Opened& at = **locked;
  return !LN_TRY(Owned(at, key)).empty();
}

Result<std::size_t> LeaseStore::Sweep(const std::function<bool(const LeaseKey&)>& keep,
                                      Deadline deadline) {
  MutexLock lock(mu_);
  auto locked = OpenLocked(Missing::kFail, deadline);
  if (!locked && locked.error().IsErrno(ENOENT)) return std::size_t{0};
  if (!locked) return std::move(locked).error();
  const Opened& at = **locked;
  std::size_t count = 0;
  for (const std::string& name : LN_TRY(ListDirAt(at.dir))) {
    const auto ip = IpAddress::Parse(name);
    if (!ip) continue;
    const auto contents = LN_TRY(ReadIfThere(at.dir, name));
    if (!contents) continue;
    if (!Trim(*contents).empty() && keep(ParseOwner(*contents))) continue;
    if (unlinkat(at.dir.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
      return Error::FromErrno(errno, "unlink " + JoinPath(directory_, name));
    }
    Forget(*ip);
    ++count;
  }
  return count;
}

Result<std::vector<LeaseStore::Holder>> LeaseStore::List(Deadline deadline) {
  MutexLock lock(mu_);
  std::vector<Holder> out;
  auto locked = OpenLocked(Missing::kFail, deadline);
  if (!locked && locked.error().IsErrno(ENOENT)) return out;
  if (!locked) return std::move(locked).error();
  LN_TRY(ReadDirectory(**locked));
  for (const auto& [address, owner] : owner_of_) out.push_back({address, ParseOwner(owner)});
  return out;
}

Result<std::uint64_t> LeaseStore::Free(const RangeSet& set, Deadline deadline) {
  const std::uint64_t capacity = set.Capacity();
  MutexLock lock(mu_);
  auto locked = OpenLocked(Missing::kFail, deadline);
  if (!locked && locked.error().IsErrno(ENOENT)) return capacity;
  if (!locked) return std::move(locked).error();
  const Opened& at = **locked;
  std::uint64_t taken = 0;
  for (const std::string& name : LN_TRY(ListDirAt(at.dir))) {
    const auto ip = IpAddress::Parse(name);
    const Range* range = ip ? set.Find(*ip) : nullptr;
    if (range != nullptr && *ip != range->gateway()) ++taken;
  }
  return capacity - std::min(capacity, taken);
}

}  // namespace linnet::ipam
