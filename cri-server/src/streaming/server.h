// The streaming server: one listener for the URLs that Exec, Attach and PortForward answer with.
//
// A thread accepts; every connection has a thread of its own, which lives as long as the stream.
// Each sleeps in poll(2).
#pragma once

#include <list>
#include <memory>
#include <string>
#include <thread>

#include "linnet/base/mutex.h"
#include "linnet/pods/pod_manager.h"

#include "connection.h"
#include "tickets.h"

namespace linnet::cri::streaming {

class StreamingServer {
 public:
  // `address`: "127.0.0.1:0". `pods` must outlive the server.
  static Result<std::unique_ptr<StreamingServer>> Start(const std::string& address,
                                                        pods::PodManager& pods);
  // Hangs up on everybody: terminals with it.
  ~StreamingServer();
  StreamingServer(const StreamingServer&) = delete;
  StreamingServer& operator=(const StreamingServer&) = delete;

  Tickets& tickets() { return tickets_; }
  const std::string& url() const { return url_; }

 private:
  StreamingServer(UniqueFd listener, UniqueFd stop, std::string url, pods::PodManager& pods);
  using Threads = std::list<std::thread>;
  void Accept();
  void Serve(Connection& connection);
  // What a thread does last.
  void Finished(Threads::iterator self) LN_EXCLUDES(mu_);

  const UniqueFd listener_, stop_;
  const std::string url_;
  pods::PodManager& pods_;
  Tickets tickets_;
  Mutex mu_;
  CondVar idle_;
  Threads live_ LN_GUARDED_BY(mu_);
  std::thread ended_
      LN_GUARDED_BY(mu_);  // the last that ended: the next one to end, or the destructor, joins it
  std::thread acceptor_;
};

}  // namespace linnet::cri::streaming
