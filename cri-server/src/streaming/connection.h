// One client's connection: a non-blocking socket, with or without TLS, what waits to be sent, and
// waiting for either.
#pragma once

#include <sys/poll.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "tls.h"

namespace linnet::cri::streaming {

inline constexpr std::size_t kReadBytes = 65536;

struct Times {
  std::chrono::milliseconds introduction = std::chrono::seconds(10);  // TLS, and the request's head
  std::chrono::milliseconds idle = std::chrono::hours(4);             // nothing in either direction
  // From the upgrade until all streams are there; of port-forward, for each pair.
  std::chrono::milliseconds creation = std::chrono::seconds(30);
  // For the size of the client's terminal, before the process starts: programs that ask at once
  // would see none. Clients send it right behind their streams, or never.
  std::chrono::milliseconds first_size = std::chrono::milliseconds(100);
  // Whoever spoke with a client that has gone has this long to see the end of its input or
  // terminal.
  std::chrono::milliseconds orphan = std::chrono::seconds(10);
};

// Thread-compatible.
class Connection {
 public:
  // `stop` is lent: readable once the daemon ends.
  Connection(UniqueFd socket, FdRef stop, Times times = {})
      : socket_(std::move(socket)), stop_(stop), times_(times) {}

  const Times& times() const { return times_; }
  // From here on the connection speaks TLS. Errors: kUnavailable the client has gone, or speaks
  // something else.
  Result<void> StartTls(std::unique_ptr<TlsSession> tls, Deadline deadline);
  bool plain() const { return tls_ == nullptr; }

  // What is there now, appended to `in`. kUnavailable: the client has gone.
  Result<void> Receive(std::string& in);
  // Frames are appended here, and go with the next Flush().
  std::string& out() { return out_; }
  // Behind what is in out(): the `size` bytes that `pipe` holds, without a copy. Only without TLS,
  // and while not congested(); the pipe is lent until then, and read by nobody else.
  void Splice(FdRef pipe, std::size_t size);
  // Sends what the kernel takes. kUnavailable: the client has gone.
  Result<void> Flush();
  bool pending() const { return sent_ < out_.size() || splice_left_ > 0; }
  // No more output should be added.
  bool congested() const { return out_.size() - sent_ > kHighWater || splice_left_ > 0; }
  // Not even answers to what the client sends: it has to read first.
  bool full() const { return out_.size() - sent_ > 2 * kHighWater; }

  FdRef socket() const { return socket_; }
  // What to wait for; Wait adds the socket (for reading where asked and not full(), for writing
  // where something is pending) and the daemon's end, and fills in what came, negative descriptors
  // left out. Errors: kCancelled the daemon ends; kDeadlineExceeded; kUnavailable the client has
  // gone.
  struct Waited {
    bool readable = false;
  };
  Result<Waited> Wait(std::vector<pollfd>& others, bool read, Deadline deadline);

  // Until one of them, or the daemon's end; the client is not looked at.
  Result<void> WaitOthers(std::vector<pollfd>& others, std::chrono::milliseconds time) const;

  // Sends the rest and waits for the client to hang up: a close with bytes unread would destroy
  // what it has not read yet. With kHangUp the client sees the end at once; clients of streams have
  // their own idea of when they have seen everything.
  enum class Goodbye : std::uint8_t { kHangUp, kWait };
  void Finish(Goodbye goodbye);
  // At once.
  void HangUp();

 private:
  static constexpr std::size_t kHighWater = 256U << 10;
  // Moves bytes; 0: none now.
  Result<std::size_t> Read(char* buffer, std::size_t size);
  Result<std::size_t> Write(const char* data, std::size_t size, int flags);
  Result<std::size_t> Moved(const TlsSession::Moved& moved);

  UniqueFd socket_;
  FdRef stop_;
  Times times_;
  std::unique_ptr<TlsSession> tls_;  // goes before the socket
  bool tls_wants_write_ = false;
  // Sends out_ up to `end`. True: all of it.
  Result<bool> SendTo(std::size_t end, int flags);

  std::string out_;
  std::size_t sent_ = 0;
  FdRef splice_from_{-1};
  std::size_t splice_left_ = 0, splice_at_ = 0;  // bytes; where in out_ they belong
};

}  // namespace linnet::cri::streaming
