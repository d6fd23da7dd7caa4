// A small HTTP/1.1 server for tests that lets the test decide every byte it sends, and when.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "linnet/base/unique_fd.h"

namespace linnet::testing {

class HttpServer {
 public:
  struct Request {
    std::string method;
    std::string target;                          // "/v2/x/manifests/1?ns=docker.io"
    std::string path;                            // the target without its query
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
    int connection = 0;  // counts from 1
    std::string Header(const std::string& name) const {
      const auto it = headers.find(name);
      return it == headers.end() ? "" : it->second;
    }
  };
  // What a handler answers with. Not answering at all is an answer too.
  class Reply {
   public:
    explicit Reply(HttpServer& server, int fd) : server_(server), fd_(fd) {}
    using Headers = std::vector<std::string>;  // "Name: value"
    // With Content-Length; the connection stays open.
    void Send(int status, std::string_view body, const Headers& headers = {});
    // Just these bytes.
    void Raw(std::string_view bytes);
    // After the handler: end the connection (with a reset where the peer has not read everything).
    void Close() { close_ = true; }
    // Until the peer goes away or the server stops.
    void Hang();
    bool closed() const { return close_; }

   private:
    HttpServer& server_;
    int fd_;
    bool close_ = false;
  };
  using Handler = std::function<void(const Request&, Reply&)>;

  // Port 0: a free one.
  explicit HttpServer(Handler handler, const std::string& address = "127.0.0.1",
                      std::uint16_t port = 0);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  std::string authority() const { return address_ + ":" + std::to_string(port_); }
  std::uint16_t port() const { return port_; }
  std::vector<Request> requests() const;
  std::size_t CountOf(std::string_view path_part) const;

 private:
  void AcceptLoop();
  void Serve(int fd, int connection);

  Handler handler_;
  std::string address_;
  std::uint16_t port_ = 0;
  UniqueFd listener_;
  std::atomic<bool> stopping_ = false;
  mutable std::mutex mu_;
  std::vector<Request> requests_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace linnet::testing
