#include "http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "linnet/base/check.h"
#include "linnet/base/text.h"

namespace linnet::testing {
namespace {

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

HttpServer::Request ParseHead(std::string_view head) {
  HttpServer::Request out;
  const std::vector<std::string> lines = Split(head, '\n');
  const std::vector<std::string> first = SplitFields(lines.front());
  if (first.size() >= 2) {
    out.method = first[0];
    out.target = first[1];
    out.path = out.target.substr(0, out.target.find('?'));
  }
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const std::size_t colon = lines[i].find(':');
    if (colon == std::string::npos) continue;
    out.headers[ToLower(lines[i].substr(0, colon))] =
        Trim(std::string_view(lines[i]).substr(colon + 1));
  }
  return out;
}

}  // namespace

void HttpServer::Reply::Raw(std::string_view bytes) {
  if (!SendAll(fd_, bytes)) close_ = true;
}

void HttpServer::Reply::Send(int status, std::string_view body, const Headers& headers) {
  std::string head = "HTTP/1.1 " + std::to_string(status) +
                     " X\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  for (const std::string& line : headers) head += line + "\r\n";
  Raw(head + "\r\n" + std::string(body));
}

void HttpServer::Reply::Hang() {
  close_ = true;
  pollfd p{.fd = fd_, .events = POLLRDHUP, .revents = 0};
  while (!server_.stopping_) {
    if (poll(&p, 1, 20) > 0) return;
  }
}

HttpServer::HttpServer(Handler handler, const std::string& address, std::uint16_t port)
    : handler_(std::move(handler)), address_(address) {
  listener_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in where{};
  where.sin_family = AF_INET;
  LN_CHECK(inet_pton(AF_INET, address.c_str(), &where.sin_addr) == 1);
  where.sin_port = htons(port);
  const int yes = 1;
  LN_CHECK(setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0);
  LN_CHECK(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0);
  LN_CHECK(listen(listener_.get(), 64) == 0);
  socklen_t size = sizeof where;
  LN_CHECK(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&where), &size) == 0);
  port_ = ntohs(where.sin_port);
  acceptor_ = std::thread([this] { AcceptLoop(); });
}

HttpServer::~HttpServer() {
  stopping_ = true;
  shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
  {
    const std::lock_guard lock(mu_);
    for (const int fd : open_) shutdown(fd, SHUT_RDWR);
  }
  for (std::thread& t : threads_) t.join();
}

std::vector<HttpServer::Request> HttpServer::requests() const {
  const std::lock_guard lock(mu_);
  return requests_;
}

std::size_t HttpServer::CountOf(std::string_view path_part) const {
  const auto all = requests();
  return static_cast<std::size_t>(std::ranges::count_if(
      all, [&](const Request& r) { return r.path.find(path_part) != std::string::npos; }));
}

void HttpServer::AcceptLoop() {
  for (int connection = 1; !stopping_; ++connection) {
    const int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    const std::lock_guard lock(mu_);
    open_.push_back(fd);
    threads_.emplace_back([this, fd, connection] { Serve(fd, connection); });
  }
}

void HttpServer::Serve(int fd, int connection) {
  std::string buffer;
  char chunk[4096];
  bool done = false;
  while (!done && !stopping_) {
    std::size_t end = 0;
    while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
      const ssize_t n = recv(fd, chunk, sizeof chunk, 0);
      if (n <= 0) break;
      buffer.append(chunk, static_cast<std::size_t>(n));
    }
    if (end == std::string::npos) break;
    Request request = ParseHead(std::string_view(buffer).substr(0, end));
    request.connection = connection;
    buffer.erase(0, end + 4);
    const auto length = ParseNumber<std::size_t>(request.Header("content-length"));
    while (length && buffer.size() < *length) {
      const ssize_t n = recv(fd, chunk, sizeof chunk, 0);
      if (n <= 0) break;
      buffer.append(chunk, static_cast<std::size_t>(n));
    }
    if (length) {
      request.body = buffer.substr(0, *length);
      buffer.erase(0, *length);
    }
    {
      const std::lock_guard lock(mu_);
      requests_.push_back(request);
    }
    Reply reply(*this, fd);
    handler_(request, reply);
    done = reply.closed();
  }
  const std::lock_guard lock(mu_);
  std::erase(open_, fd);
  close(fd);
}

}  // namespace linnet::testing
