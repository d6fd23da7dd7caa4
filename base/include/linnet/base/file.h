// Files and directories by descriptor. Every descriptor made here is close-on-exec.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet {

// O_CLOEXEC is added. Errors name the path.
Result<UniqueFd> Open(const std::string& path, int flags, mode_t mode = 0);
Result<UniqueFd> OpenAt(FdRef dir, const std::string& path, int flags, mode_t mode = 0);
// A directory, for use with the …At functions (O_DIRECTORY, not O_PATH: it can be fsynced and
// listed).
Result<UniqueFd> OpenDir(const std::string& path);
// openat2 with `resolve` flags (RESOLVE_IN_ROOT, RESOLVE_BENEATH, …); EAGAIN is retried a bounded
// number of times. Errors: kUnimplemented where the kernel has no openat2.
Result<UniqueFd> OpenAt2(FdRef dir, const std::string& path, int flags, mode_t mode,
                         std::uint64_t resolve);
Result<UniqueFd> Dup(FdRef fd);

// Whole contents; kResourceExhausted where they exceed `max_bytes`.
inline constexpr std::size_t kDefaultMaxFileBytes = 16U << 20;
Result<std::string> ReadFile(const std::string& path, std::size_t max_bytes = kDefaultMaxFileBytes);
Result<std::string> ReadFileAt(FdRef dir, const std::string& path,
                               std::size_t max_bytes = kDefaultMaxFileBytes);
Result<std::string> ReadAll(FdRef fd, std::size_t max_bytes = kDefaultMaxFileBytes);

// Writes everything, through short writes and EINTR.
Result<void> WriteAll(FdRef fd, std::string_view data);
// One open, one write, no temporary: for /proc, /sys and cgroup files.
Result<void> WriteControlFile(const std::string& path, std::string_view data);
Result<void> WriteControlFileAt(FdRef dir, const std::string& path, std::string_view data);

// Temporary file in the same directory + rename: survives the death of any process (not of the
// kernel). For pod, container and exit records, CNI cache and address files. A reader treats an
// empty or torn file as absent.
Result<void> ReplaceFile(const std::string& path, std::string_view data, mode_t mode = 0600);
Result<void> ReplaceFileAt(FdRef dir, const std::string& name, std::string_view data,
                           mode_t mode = 0600);
// The same with fsync of file and directory: for images only.
Result<void> WriteFileDurable(const std::string& path, std::string_view data, mode_t mode = 0600);

// mkdir -p; `mode` is for the directories that are made, whatever the umask. Existing ones stay as
// they are.
Result<void> MakeDirs(const std::string& path, mode_t mode = 0700);
// Removes a tree without following links and without touching what is mounted in it
// (kFailedPrecondition then). Absent is success.
Result<void> RemoveAll(const std::string& path);
Result<void> RemoveAllAt(FdRef dir, const std::string& name);
// unlink; absent is success.
Result<void> RemoveFile(const std::string& path);

bool Exists(const std::string& path);
// Names in the directory, without "." and "..", sorted by bytes.
Result<std::vector<std::string>> ListDir(const std::string& path);
Result<std::vector<std::string>> ListDirAt(FdRef dir);
Result<std::string> ReadLink(const std::string& path);
Result<std::string> RealPath(const std::string& path);
// "/proc/self/fd/N"
std::string FdPath(FdRef fd);

// A sealed (write, grow, shrink, seal) memfd with these bytes; `executable` asks for MFD_EXEC where
// the kernel knows it.
enum class MemfdUse : std::uint8_t { kData, kExecutable };
Result<UniqueFd> SealedMemfd(const std::string& name, std::string_view data, MemfdUse use);

// "a/b" from "a" and "b", one slash between; an absolute `b` is appended all the same.
std::string JoinPath(std::string_view a, std::string_view b);
std::string Dirname(std::string_view path);
std::string Basename(std::string_view path);
// Lexical: no "//", "/./", "/../"; never above "/". "" becomes ".".
std::string CleanPath(std::string_view path);

}  // namespace linnet
