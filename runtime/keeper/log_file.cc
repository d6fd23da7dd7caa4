#include "log_file.h"

#include <sys/stat.h>

#include <cstdlib>

#include "sys.h"

namespace linnet::runtime::keeper {
namespace {

// A container may have put a link, a FIFO or a device there: nothing of that is followed, opened or
// written to.
constexpr std::uint64_t kBeneath = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

// mkdir -p of what stands before the last slash.
int MakeParents(int dir, char* path) {
  int parent = fcntl(dir, F_DUPFD_CLOEXEC, 3);
  int err = parent < 0 ? errno : 0;
  for (char* name = path; err == 0;) {
    char* slash = strchr(name, '/');
    if (slash == nullptr) break;
    *slash = '\0';
    if (mkdirat(parent, name, 0755) != 0 && errno != EEXIST) err = errno;
    const int child = err == 0 ? OpenAt2(parent, name, O_PATH | O_DIRECTORY, 0, kBeneath) : -1;
    if (err == 0 && child < 0) err = errno;
    close(parent);
    parent = child;
    *slash = '/';
    name = slash + 1;
  }
  if (parent >= 0) close(parent);
  return err;
}

const char* Reason(int err) {
  switch (err) {
    case ENOSPC:
      return "no space left on device";
    case EDQUOT:
      return "disk quota exceeded";
    case EFBIG:
      return "file too large";
    default:
      return "write error ";
  }
}

}  // namespace

LogFile::LogFile()
    : LogSink{[](LogSink* self, const iovec* parts, int count) {
        static_cast<LogFile*>(self)->Write(parts, count);
      }} {}

LogFile::~LogFile() {
  Close();
  std::free(path_);
}

void LogFile::Close() {
  CloseFd(fd_);
  CloseFd(dir_);
}

int LogFile::OpenFile() const {
  const int fd =
      OpenAt2(dir_, path_, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0640,
              kBeneath);
  if (fd < 0) return -1;
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink != 1) {
    close(fd);
    errno = EINVAL;  // FIFO, device, or a hard link to something else
    return -1;
  }
  return fd;
}

int LogFile::Open(int dir, const char* path) {
  dir_ = dir;
  if (dir < 0 || *path == '\0') {
    CloseFd(dir_);
    return 0;
  }
  path_ = strdup(path);
  if (path_ == nullptr) return ENOMEM;
  fd_ = OpenFile();
  if (fd_ < 0 && errno == ENOENT) {
    if (const int err = MakeParents(dir_, path_); err != 0) return err;
    fd_ = OpenFile();
  }
  return fd_ < 0 ? errno : 0;
}

int LogFile::Reopen() {
  if (dir_ < 0) return 0;
  int fd = OpenFile();
  if (fd < 0 && errno == ENOENT) {
    if (const int err = MakeParents(dir_, path_); err != 0) return err;
    fd = OpenFile();
  }
  if (fd < 0) return errno;
  CloseFd(fd_);
  fd_ = fd;
  torn_ = false;
  return 0;
}

bool LogFile::WriteAll(iovec* parts, int count, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t written = writev(fd_, parts, count);
    if (written < 0) {
      if (errno == EINTR) continue;
      drop_errno_ = errno;
      dropped_bytes_ += bytes;
      return false;
    }
    auto rest = static_cast<std::size_t>(written);
    bytes -= rest;
    // Whether what comes next continues a line: a batch ends with its newline.
    torn_ = bytes > 0;
    while (count > 0 && rest >= parts->iov_len) {
      rest -= parts->iov_len;
      ++parts;
      --count;
    }
    if (count > 0) {
      parts->iov_base = static_cast<char*>(parts->iov_base) + rest;
      parts->iov_len -= rest;
    }
  }
  return true;
}

void LogFile::WriteNote() {
  Line<128> note;
  char stamp[kStampSize + 1] = {};
  FormatStamp(WallNanos(), stamp);
  if (torn_) note.Add("\n");
  note.Add(stamp)
      .Add(" stderr F linnet: ")
      .Add(static_cast<std::int64_t>(dropped_bytes_))
      .Add(" bytes of log lost: ");
  note.Add(Reason(drop_errno_));
  if (drop_errno_ != ENOSPC && drop_errno_ != EDQUOT && drop_errno_ != EFBIG) note.Add(drop_errno_);
  note.Add("\n");
  const std::uint64_t lost = dropped_bytes_;
  iovec part = {const_cast<char*>(note.text()),
                note.size()};  // NOLINT(cppcoreguidelines-pro-type-const-cast): only read
  dropped_bytes_ = WriteAll(&part, 1, note.size()) ? 0 : lost;
}

void LogFile::Write(const iovec* parts, int count) {
  std::size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i].iov_len;
  if (fd_ < 0) return;
  if (dropped_bytes_ > 0) {
    WriteNote();
    if (dropped_bytes_ > 0) {  // still no room: nothing is tried, the container must not wait
      dropped_bytes_ += bytes;
      return;
    }
  }
  iovec copy[160];
  if (count > 160) return;  // LogStream's batches are smaller
  memcpy(copy, parts, sizeof(iovec) * static_cast<std::size_t>(count));
  (void)WriteAll(copy, count,
                 bytes);  // what is lost is counted, and noted when there is room again
}

}  // namespace linnet::runtime::keeper
