// One client's connection: a non-blocking socket, what waits to be sent, and waiting for either.
#pragma once

#include <sys/poll.h>

#include <chrono>
#include <string>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::cri::streaming {

inline constexpr auto kIdleTime = std::chrono::hours(4);
inline constexpr auto kStreamCreationTime = std::chrono::seconds(30);
inline constexpr std::size_t kReadBytes = 65536;

// Thread-compatible.
class Connection {
 public:
  // `stop` is lent: readable once the daemon ends.
  Connection(UniqueFd socket, FdRef stop) : socket_(std::move(socket)), stop_(stop) {}

  // What is there now, appended to `in`. kUnavailable: the client has gone.
  Result<void> Receive(std::string& in);
  // Frames are appended here, and go with the next Flush().
  std::string& out() { return out_; }
  // Sends what the kernel takes. kUnavailable: the client has gone.
  Result<void> Flush();
  bool pending() const { return sent_ < out_.size(); }
  // More should not be added.
  bool congested() const { return out_.size() - sent_ > kHighWater; }

  FdRef socket() const { return socket_; }
  // What to wait for; Wait adds the socket (for reading where asked, for writing where something is
  // pending) and the daemon's end, and fills in what came, negative descriptors left out. Errors:
  // kCancelled the daemon ends; kDeadlineExceeded; kUnavailable the client has gone.
  struct Waited {
    bool readable = false;
  };
  Result<Waited> Wait(std::vector<pollfd>& others, bool read, Deadline deadline);

  // Until one of them, or the daemon's end; the client is not looked at.
  Result<void> WaitOthers(std::vector<pollfd>& others, std::chrono::milliseconds time) const;

  // Sends the rest and waits for the client to hang up: a close with bytes unread would destroy
  // what it has not read yet.
  void Finish();

 private:
  static constexpr std::size_t kHighWater = 256U << 10;
  UniqueFd socket_;
  FdRef stop_;
  std::string out_;
  std::size_t sent_ = 0;
};

}  // namespace linnet::cri::streaming
