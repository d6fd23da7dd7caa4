// The streaming server: one listener for the URLs that Exec, Attach and PortForward answer with.
//
// A thread accepts; every connection has a thread of its own, which lives as long as the stream.
// Each sleeps in poll(2). Strangers, who have not shown a URL of ours yet, are few and get ten
// seconds: when there are too many, the one who came first has to go.
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "linnet/base/mutex.h"
#include "linnet/pods/stream_targets.h"

#include "connection.h"
#include "tickets.h"
#include "tls.h"

namespace linnet::cri::streaming {

// What client and server agreed on.
struct Upgrade {
  bool web_socket = false;
  std::string protocol;
};

struct ServerOptions {
  std::string address = "127.0.0.1:0";
  TlsFiles tls;
  Times times;
};

class StreamingServer {
 public:
  // `pods` must outlive the server.
  static Result<std::unique_ptr<StreamingServer>> Start(const ServerOptions& options,
                                                        pods::StreamTargets& pods);
  // Hangs up on everybody: terminals with it.
  ~StreamingServer();
  StreamingServer(const StreamingServer&) = delete;
  StreamingServer& operator=(const StreamingServer&) = delete;

  Tickets& tickets() { return tickets_; }
  const std::string& url() const { return url_; }

 private:
  StreamingServer(UniqueFd listener, UniqueFd stop, std::string url, std::unique_ptr<TlsSource> tls,
                  Times times, pods::StreamTargets& pods);
  using Threads = std::list<std::thread>;
  // Who has not shown a valid URL yet, the oldest first.
  using Strangers = std::list<FdRef>;
  void Accept();
  void Start(UniqueFd socket) LN_EXCLUDES(mu_);
  void Serve(Connection& connection, Strangers::iterator stranger) LN_EXCLUDES(mu_);
  std::optional<StreamRequest> Introduce(Connection& connection, std::string& rest,
                                         Upgrade& upgrade);
  // What a thread does last.
  void Finished(Threads::iterator self) LN_EXCLUDES(mu_);

  const UniqueFd listener_, stop_;
  const std::string url_;
  const std::unique_ptr<TlsSource> tls_;  // nullptr: none
  const Times times_;
  pods::StreamTargets& pods_;
  Tickets tickets_;
  Mutex mu_;
  CondVar idle_;
  Threads live_ LN_GUARDED_BY(mu_);
  Strangers strangers_ LN_GUARDED_BY(mu_);
  std::thread ended_
      LN_GUARDED_BY(mu_);  // the last that ended: the next one to end, or the destructor, joins it
  std::thread acceptor_;
};

}  // namespace linnet::cri::streaming
