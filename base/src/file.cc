#include "linnet/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>

#include "linnet/base/ids.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace linnet {
namespace {

template <class Call>
auto RetryEintr(Call call) {
  auto r = call();
  while (r < 0 && errno == EINTR) r = call();
  return r;
}

struct DirCloser {
  void operator()(DIR* dir) const { closedir(dir); }
};
using DirPtr = std::unique_ptr<DIR, DirCloser>;

// No name that a process before us may have left: its pid can be ours after a restart.
std::string TempName(const std::string& name) {
  static std::atomic<std::uint64_t> counter{0};
  static const std::string process = RandomHex(6);
  return "." + name + "." + process + "-" + std::to_string(counter.fetch_add(1)) + ".tmp";
}

enum class Sync : std::uint8_t { kNo, kYes };

Result<void> Replace(FdRef dir, const std::string& name, std::string_view data, mode_t mode,
                     Sync sync) {
  const std::string temp = TempName(name);
  const auto fail = [&](const char* what) {
    Error error = Error::FromErrno(errno, std::string(what) + " " + name);
    (void)unlinkat(dir.get(), temp.c_str(), 0);  // gone already is fine
    return error;
  };
  UniqueFd fd(RetryEintr([&] {
    return openat(dir.get(), temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                  mode);
  }));
  if (!fd) return Error::FromErrno(errno, "create " + temp);
  auto written = WriteAll(fd, data);
  if (!written) {
    (void)unlinkat(dir.get(), temp.c_str(), 0);  // gone already is fine
    return std::move(written).error().With(name);
  }
  if (fchmod(fd.get(), mode) != 0) return fail("chmod");
  if (sync == Sync::kYes && fsync(fd.get()) != 0) return fail("fsync");
  if (renameat(dir.get(), temp.c_str(), dir.get(), name.c_str()) != 0) return fail("rename to");
  if (sync == Sync::kYes && fsync(dir.get()) != 0)
    return Error::FromErrno(errno, "fsync the directory of " + name);
  return Ok();
}

Result<void> RemoveEntry(FdRef dir, const std::string& name, int depth);

Result<void> RemoveContents(FdRef dir, int depth) {
  if (depth > 4096) return InvalidArgument("directory tree is deeper than 4096");
  for (const std::string& name : LN_TRY(ListDirAt(dir))) LN_TRY(RemoveEntry(dir, name, depth + 1));
  return Ok();
}

// A directory to be emptied. EXDEV: something is mounted on it, whose contents are not ours to
// remove.
Result<UniqueFd> OpenUnmounted(FdRef dir, const std::string& name) {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  Result<UniqueFd> sub = OpenAt2(dir, name, kFlags, 0, RESOLVE_NO_XDEV);
  if (sub || !sub.error().IsErrno(ENOSYS)) return sub;
  // A kernel (or a filter) without openat2: a mount of another file system is still seen.
  sub = OpenAt(dir, name, kFlags);
  struct stat above {
  }, below{};
  if (sub && (fstat(dir.get(), &above) != 0 || fstat(sub->get(), &below) != 0))
    return Error::FromErrno(errno, "stat " + name);
  if (sub && above.st_dev != below.st_dev) return Error::FromErrno(EXDEV, "open " + name);
  return sub;
}

Result<void> RemoveEntry(FdRef dir, const std::string& name, int depth) {
  if (unlinkat(dir.get(), name.c_str(), 0) == 0 || errno == ENOENT) return Ok();
  const int err = errno;
  if (err != EISDIR && err != EPERM) return Error::FromErrno(err, "remove " + name);
  const Result<UniqueFd> opened = OpenUnmounted(dir, name);
  if (!opened) {
    if (opened.error().IsErrno(ENOENT)) return Ok();
    if (opened.error().IsErrno(ENOTDIR)) return Error::FromErrno(err, "remove " + name);
    if (opened.error().IsErrno(EXDEV))
      return FailedPrecondition("remove " + name + ": something is mounted there");
    return opened.error();
  }
  const UniqueFd& sub = *opened;
  LN_TRY_CTX(RemoveContents(sub, depth), name);
  if (unlinkat(dir.get(), name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return Error::FromErrno(errno, "rmdir " + name);
  return Ok();
}

}  // namespace

Result<UniqueFd> Open(const std::string& path, int flags, mode_t mode) {
  return OpenAt(FdRef::Cwd(), path, flags, mode);
}

Result<UniqueFd> OpenAt(FdRef dir, const std::string& path, int flags, mode_t mode) {
  const int fd =
      RetryEintr([&] { return openat(dir.get(), path.c_str(), flags | O_CLOEXEC, mode); });
  if (fd < 0) return Error::FromErrno(errno, "open " + path);
  return UniqueFd(fd);
}

Result<UniqueFd> OpenDir(const std::string& path) { return Open(path, O_RDONLY | O_DIRECTORY); }

Result<UniqueFd> OpenAt2(FdRef dir, const std::string& path, int flags, mode_t mode,
                         std::uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? mode : 0;
  how.resolve = resolve;
  // EAGAIN: a rename raced with the resolution of "..".
  for (int attempt = 0;; ++attempt) {
    const long fd = syscall(SYS_openat2, dir.get(), path.c_str(), &how,
                            sizeof how);  // NOLINT(google-runtime-int): syscall
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if ((errno == EAGAIN || errno == EINTR) && attempt < 128) continue;
    return Error::FromErrno(errno, "open " + path);
  }
}

Result<UniqueFd> Dup(FdRef fd) {
  const int copy = fcntl(fd.get(), F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return Error::FromErrno(errno, "duplicate a descriptor");
  return UniqueFd(copy);
}

Result<std::string> ReadAll(FdRef fd, std::size_t max_bytes) {
  std::string out;
  std::size_t used = 0;
  for (;;) {
    if (used == out.size()) out.resize(std::max<std::size_t>(4096, out.size() * 2));
    const ssize_t n =
        RetryEintr([&] { return read(fd.get(), out.data() + used, out.size() - used); });
    if (n < 0) return Error::FromErrno(errno, "read");
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
    if (used > max_bytes)
      return Error(Code::kResourceExhausted, "larger than " + std::to_string(max_bytes) + " bytes");
  }
  out.resize(used);
  return out;
}

Result<std::string> ReadFileAt(FdRef dir, const std::string& path, std::size_t max_bytes) {
  const UniqueFd fd = LN_TRY(OpenAt(dir, path, O_RDONLY));
  return LN_TRY_CTX(ReadAll(fd, max_bytes), path);
}

Result<std::string> ReadFile(const std::string& path, std::size_t max_bytes) {
  return ReadFileAt(FdRef::Cwd(), path, max_bytes);
}

Result<void> WriteAll(FdRef fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = RetryEintr([&] { return write(fd.get(), data.data(), data.size()); });
    if (n < 0) return Error::FromErrno(errno, "write");
    if (n == 0) return Error::FromErrno(EIO, "write");  // again would be for ever
    data.remove_prefix(static_cast<std::size_t>(n));
  }
  return Ok();
}

Result<void> WriteControlFileAt(FdRef dir, const std::string& path, std::string_view data) {
  const UniqueFd fd = LN_TRY(OpenAt(dir, path, O_WRONLY));
  const ssize_t n = RetryEintr([&] { return write(fd.get(), data.data(), data.size()); });
  if (n < 0) return Error::FromErrno(errno, "write \"" + std::string(data) + "\" to " + path);
  return Ok();
}

Result<void> WriteControlFile(const std::string& path, std::string_view data) {
  return WriteControlFileAt(FdRef::Cwd(), path, data);
}

Result<void> ReplaceFileAt(FdRef dir, const std::string& name, std::string_view data, mode_t mode) {
  return Replace(dir, name, data, mode, Sync::kNo);
}

Result<void> ReplaceFile(const std::string& path, std::string_view data, mode_t mode) {
  const UniqueFd dir = LN_TRY(OpenDir(Dirname(path)));
  return Replace(dir, Basename(path), data, mode, Sync::kNo);
}

Result<void> WriteFileDurable(const std::string& path, std::string_view data, mode_t mode) {
  const UniqueFd dir = LN_TRY(OpenDir(Dirname(path)));
  return Replace(dir, Basename(path), data, mode, Sync::kYes);
}

Result<void> MakeDirs(const std::string& path, mode_t mode) {
  const std::string clean = CleanPath(path);
  struct stat st {};
  if (stat(clean.c_str(), &st) == 0) {
    if (S_ISDIR(st.st_mode)) return Ok();
    return Error::FromErrno(ENOTDIR, "make directory " + clean);
  }
  const std::string parent = Dirname(clean);
  if (parent != clean) LN_TRY(MakeDirs(parent, mode));
  if (mkdir(clean.c_str(), mode) != 0) {
    const int err = errno;
    // Somebody else made it meanwhile; or it is a link that leads nowhere.
    if (err == EEXIST && stat(clean.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return Ok();
    return Error::FromErrno(err, "make directory " + clean);
  }
  if (chmod(clean.c_str(), mode) != 0) return Error::FromErrno(errno, "chmod " + clean);
  return Ok();
}

Result<void> RemoveAllAt(FdRef dir, const std::string& name) { return RemoveEntry(dir, name, 0); }

Result<void> RemoveAll(const std::string& path) {
  auto dir = OpenDir(Dirname(path));
  if (!dir) {
    if (dir.error().IsErrno(ENOENT)) return Ok();
    return std::move(dir).error();
  }
  LN_TRY_CTX(RemoveAllAt(*dir, Basename(path)), Dirname(path));
  return Ok();
}

Result<void> RemoveFile(const std::string& path) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT)
    return Error::FromErrno(errno, "remove " + path);
  return Ok();
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

Result<std::vector<std::string>> ListDirAt(FdRef dir) {
  // A descriptor of its own: the directory stream owns and moves it.
  UniqueFd fd = LN_TRY(OpenAt(dir, ".", O_RDONLY | O_DIRECTORY));
  DirPtr stream(fdopendir(fd.get()));
  if (!stream) return Error::FromErrno(errno, "list directory");
  (void)fd.Release();  // the stream closes it
  std::vector<std::string> out;
  for (;;) {
    errno = 0;
    const dirent* entry =
        readdir(stream.get());  // NOLINT(concurrency-mt-unsafe): the stream is this call's alone
    if (entry == nullptr) {
      if (errno != 0) return Error::FromErrno(errno, "list directory");
      break;
    }
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") out.emplace_back(name);
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<std::vector<std::string>> ListDir(const std::string& path) {
  const UniqueFd dir = LN_TRY(OpenDir(path));
  return LN_TRY_CTX(ListDirAt(dir), path);
}

Result<std::string> ReadLink(const std::string& path) {
  std::string out(256, '\0');
  for (;;) {
    const ssize_t n = readlink(path.c_str(), out.data(), out.size());
    if (n < 0) return Error::FromErrno(errno, "read link " + path);
    if (static_cast<std::size_t>(n) < out.size()) {
      out.resize(static_cast<std::size_t>(n));
      return out;
    }
    out.resize(out.size() * 2);
  }
}

Result<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (!real) return Error::FromErrno(errno, "resolve " + path);
  return std::string(real.get());
}

std::string FdPath(FdRef fd) { return "/proc/self/fd/" + std::to_string(fd.get()); }

Result<UniqueFd> SealedMemfd(const std::string& name, std::string_view data, MemfdUse use) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  UniqueFd fd(memfd_create(name.c_str(),
                           flags | (use == MemfdUse::kExecutable ? MFD_EXEC : MFD_NOEXEC_SEAL)));
  // EINVAL: kernel before 6.3 knows neither flag, and its memfds are executable.
  if (!fd && errno == EINVAL) fd.Reset(memfd_create(name.c_str(), flags));
  if (!fd) return Error::FromErrno(errno, "memfd_create " + name);
  LN_TRY_CTX(WriteAll(fd, data), name);
  if (lseek(fd.get(), 0, SEEK_SET) < 0) return Error::FromErrno(errno, "rewind " + name);
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    return Error::FromErrno(errno, "seal " + name);
  }
  return fd;
}

std::string JoinPath(std::string_view a, std::string_view b) {
  while (a.size() > 1 && a.back() == '/') a.remove_suffix(1);
  while (!b.empty() && b.front() == '/') b.remove_prefix(1);
  if (b.empty()) return std::string(a);
  if (a.empty()) return std::string(b);
  std::string out(a);
  if (out.back() != '/') out += '/';
  return out += b;
}

std::string Dirname(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  std::string_view dir = path.substr(0, slash);
  while (dir.size() > 1 && dir.back() == '/') dir.remove_suffix(1);
  return dir.empty() ? "/" : std::string(dir);
}

std::string Basename(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos || path == "/") return std::string(path);
  return std::string(path.substr(slash + 1));
}

std::string CleanPath(std::string_view path) {
  const bool absolute = !path.empty() && path.front() == '/';
  std::vector<std::string_view> parts;
  std::size_t i = 0;
  while (i < path.size()) {
    const std::size_t end = std::min(path.find('/', i), path.size());
    const std::string_view part = path.substr(i, end - i);
    i = end + 1;
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty() && parts.back() != "..") {
      parts.pop_back();
    } else if (!absolute) {
      parts.push_back(part);
    }
  }
  std::string out = absolute ? "/" : "";
  for (const std::string_view part : parts) {
    if (!out.empty() && out.back() != '/') out += '/';
    out += part;
  }
  return out.empty() ? "." : out;
}

}  // namespace linnet
