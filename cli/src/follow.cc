#include "follow.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <deque>

#include "linnet/base/file.h"

#include "lookup.h"

namespace linnet::cli {
namespace {

constexpr int kShortestWaitMs = 2;
constexpr int kLongestWaitMs = 250;

void PrintLine(const LogLine& line, bool timestamps) {
  std::FILE* to = line.error ? stderr : stdout;
  if (timestamps) {
    std::fwrite(line.time.data(), 1, line.time.size(), to);
    std::fputc(' ', to);
  }
  std::fwrite(line.text.data(), 1, line.text.size(), to);
  if (!line.partial) std::fputc('\n', to);
}

// The file at a path, whatever rotation does to it.
class LogReader {
 public:
  explicit LogReader(std::string path) : path_(std::move(path)) {}

  // Everything new, line by line. True where there was something.
  Result<bool> Read(const std::function<void(const LogLine&)>& line) {
    bool any = LN_TRY(Drain(line));
    if (Rotated()) {
      any = LN_TRY(Drain(line)) || any;  // what came between the last read and the rename
      fd_.Reset();
      any = LN_TRY(Drain(line)) || any;
    }
    return any;
  }

 private:
  Result<bool> Drain(const std::function<void(const LogLine&)>& line) {
    if (!fd_) {
      auto fd = Open(path_, O_RDONLY);
      if (!fd && fd.error().Is(Code::kNotFound)) return false;
      if (!fd) return std::move(fd).error();
      fd_ = *std::move(fd);
      rest_.clear();
    }
    bool any = false;
    std::array<char, 64 << 10> buffer;
    for (;;) {
      const ssize_t n = ::read(fd_.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Error::FromErrno(errno, "read " + path_);
      if (n == 0) return any;
      any = true;
      rest_.append(buffer.data(), static_cast<std::size_t>(n));
      std::size_t from = 0;
      for (std::size_t end = 0; (end = rest_.find('\n', from)) != std::string::npos;
           from = end + 1) {
        if (auto parsed = ParseLogLine(std::string_view(rest_).substr(from, end - from)))
          line(*parsed);
      }
      rest_.erase(0, from);
    }
  }

  bool Rotated() const {
    struct stat open {};
    struct stat named {};
    if (!fd_ || ::fstat(fd_.get(), &open) != 0 || ::stat(path_.c_str(), &named) != 0) return false;
    return open.st_ino != named.st_ino || open.st_dev != named.st_dev;
  }

  std::string path_, rest_;
  UniqueFd fd_;
};

struct KeptLine {
  std::string time, text;
  bool error, partial;
};

// Wakes when something in the log's directory changes, a signal came, or after a while.
class Waiter {
 public:
  Waiter(const std::string& directory, int signal_fd)
      : signal_fd_(signal_fd), inotify_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    if (inotify_)
      (void)::inotify_add_watch(inotify_.get(), directory.c_str(),
                                IN_MODIFY | IN_CREATE | IN_MOVED_TO);
    // Without a watch the timeout serves.
  }
  void Wait() {
    std::array<pollfd, 2> fds = {pollfd{inotify_.get(), POLLIN, 0}, pollfd{signal_fd_, POLLIN, 0}};
    (void)::poll(fds.data(), fds.size(), wait_ms_);  // interrupted is as good as a timeout
    if ((fds[0].revents & POLLIN) != 0) {
      std::array<char, 4096> events;
      while (::read(inotify_.get(), events.data(), events.size()) > 0) {
      }
    }
    wait_ms_ = std::min(wait_ms_ * 2, kLongestWaitMs);
  }
  void Busy() { wait_ms_ = kShortestWaitMs; }

 private:
  int signal_fd_;
  UniqueFd inotify_;
  int wait_ms_ = kShortestWaitMs;
};

Result<void> Follow(const std::string& path, LogReader& reader, bool timestamps, int signal_fd,
                    const std::function<bool()>& ended) {
  Waiter waiter(Dirname(path), signal_fd);
  const auto print = [&](const LogLine& line) { PrintLine(line, timestamps); };
  for (;;) {
    const bool last = ended();  // asked before the read: what was written until then is printed
    const bool any = LN_TRY(reader.Read(print));
    if (std::fflush(stdout) != 0) return Ok();  // whoever read us has gone
    if (last) return Ok();
    if (any) waiter.Busy();
    waiter.Wait();
  }
}

}  // namespace

std::optional<LogLine> ParseLogLine(std::string_view line) {
  LogLine out;
  const auto field = [&line]() -> std::optional<std::string_view> {
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos) return std::nullopt;
    const std::string_view value = line.substr(0, space);
    line.remove_prefix(space + 1);
    return value;
  };
  const auto time = field();
  const auto stream = field();
  if (!time || !stream || (*stream != "stdout" && *stream != "stderr")) return std::nullopt;
  // Tags may be several, separated by ":"; an empty line has no blank after its tag.
  const std::size_t space = line.find(' ');
  const std::string_view tag = line.substr(0, space);
  out.time = *time;
  out.error = *stream == "stderr";
  out.partial = tag == "P" || tag.starts_with("P:");
  out.text = space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
  return out;
}

Result<void> PrintLog(const std::string& path, const LogOptions& options,
                      const std::function<bool()>& ended) {
  LogReader reader(path);
  if (options.tail) {
    std::deque<KeptLine> kept;
    LN_TRY(reader.Read([&](const LogLine& line) {
      kept.push_back({std::string(line.time), std::string(line.text), line.error, line.partial});
      while (kept.size() > *options.tail) kept.pop_front();
    }));
    for (const KeptLine& line : kept)
      PrintLine({line.time, line.text, line.error, line.partial}, options.timestamps);
  } else {
    LN_TRY(reader.Read([&](const LogLine& line) { PrintLine(line, options.timestamps); }));
  }
  if (!options.follow) return Ok();
  return Follow(path, reader, options.timestamps, -1, ended);
}

Result<int> FollowToEnd(Client& client, const cri::ContainerStatus& status) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  (void)::pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // cannot fail with these arguments
  const UniqueFd signal_fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signal_fd) return Error::FromErrno(errno, "signalfd");

  int asked = 0;
  std::optional<Error> failed;
  cri::ContainerStatus now = status;
  const auto ended = [&] {
    signalfd_siginfo info{};
    while (::read(signal_fd.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      cri::StopContainerRequest stop;
      stop.set_container_id(status.id());
      stop.set_timeout(asked++ == 0 ? 10 : 0);
      auto stopped = client.Call(client.runtime(), &cri::RuntimeService::Stub::StopContainer, stop);
      if (!stopped) std::fprintf(stderr, "linnet: stop: %s\n", stopped.error().message().c_str());
    }
    auto asked_now = StatusOf(client, status.id());
    if (!asked_now) {
      failed = std::move(asked_now).error();
      return true;
    }
    now = *std::move(asked_now);
    return now.state() == cri::CONTAINER_EXITED;
  };
  LogReader reader(status.log_path());
  LN_TRY(Follow(status.log_path(), reader, false, signal_fd.get(), ended));
  if (failed) return *std::move(failed);
  if (now.reason() == "OOMKilled")
    std::fprintf(stderr, "linnet: the container was killed: out of memory\n");
  return now.exit_code();
}

}  // namespace linnet::cli
