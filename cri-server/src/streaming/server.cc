#include "server.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <iterator>
#include <system_error>

#include "linnet/base/ip.h"
#include "linnet/base/log.h"
#include "linnet/base/text.h"

#include "bridge.h"
#include "http.h"
#include "port_forward.h"
#include "remote.h"

namespace linnet::cri::streaming {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kMaxConnections = 2048;
constexpr std::size_t kMaxStrangers = 256;
// Of a connection on which nothing is said: a client whose machine has gone is noticed after two
// minutes.
constexpr int kKeepIdle = 60, kKeepInterval = 15, kKeepCount = 4;  // seconds, probes
constexpr const char* kPortForwardProtocol = "portforward.k8s.io";
constexpr const char* kTunnelProtocol = "SPDY/3.1+portforward.k8s.io";

struct Endpoint {
  IpAddress ip;
  std::uint16_t port = 0;
};

// "127.0.0.1:0", "[::1]:0".
Result<Endpoint> ParseEndpoint(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) return InvalidArgument("\"" + address + "\" is not ADDRESS:PORT");
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  return Endpoint{
      .ip = LN_TRY(IpAddress::Parse(host)),
      .port = LN_TRY(ParseNumber<std::uint16_t>(std::string_view(address).substr(colon + 1)))};
}

struct Listener {
  UniqueFd socket;
  std::string url;
};

Result<Listener> Listen(const std::string& address, const char* scheme) {
  const Endpoint endpoint = LN_TRY(ParseEndpoint(address));
  const bool v4 = endpoint.ip.is_v4();
  Listener out;
  out.socket =
      UniqueFd(socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out.socket) return Error::FromErrno(errno, "socket");
  const int one = 1;
  (void)setsockopt(out.socket.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_storage storage{};
  socklen_t size = 0;
  const auto bytes = endpoint.ip.bytes();
  if (v4) {
    auto* at = reinterpret_cast<sockaddr_in*>(&storage);
    at->sin_family = AF_INET;
    at->sin_port = htons(endpoint.port);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<std::uint8_t*>(&at->sin_addr));
    size = sizeof *at;
  } else {
    auto* at = reinterpret_cast<sockaddr_in6*>(&storage);
    at->sin6_family = AF_INET6;
    at->sin6_port = htons(endpoint.port);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<std::uint8_t*>(&at->sin6_addr));
    size = sizeof *at;
  }
  if (bind(out.socket.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0)
    return Error::FromErrno(errno, "bind");
  if (listen(out.socket.get(), 128) != 0) return Error::FromErrno(errno, "listen");
  if (getsockname(out.socket.get(), reinterpret_cast<sockaddr*>(&storage), &size) != 0)
    return Error::FromErrno(errno, "getsockname");
  const std::uint16_t port = ntohs(v4 ? reinterpret_cast<const sockaddr_in*>(&storage)->sin_port
                                      : reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
  // Nobody can connect to "any address".
  const bool any = endpoint.ip.IsUnspecified();
  const std::string host =
      v4 ? (any ? "127.0.0.1" : endpoint.ip.str()) : "[" + (any ? "::1" : endpoint.ip.str()) + "]";
  out.url = scheme + ("://" + host) + ":" + std::to_string(port);
  return out;
}

// Reads up to the empty line; what comes behind it is left in `rest`.
Result<std::string> ReadHead(Connection& connection, std::string& rest, Deadline deadline) {
  std::vector<pollfd> none;
  std::string in;
  while (true) {
    const std::size_t end = in.find("\r\n\r\n");
    if (end != std::string::npos && end <= kMaxHeadBytes) {
      rest = in.substr(end + 4);
      in.resize(end);
      return in;
    }
    if (in.size() > kMaxHeadBytes)
      return Error(Code::kResourceExhausted, "the request's head is too large");
    if (LN_TRY(connection.Wait(none, true, deadline)).readable) LN_TRY(connection.Receive(in));
  }
}

void Refuse(Connection& connection, int status, std::string_view text,
            const std::vector<std::string>& headers = {}) {
  connection.out() += ErrorResponse(status, text, headers);
}

// These put the answer into connection.out().
std::optional<Upgrade> UpgradeToWebSocket(Connection& connection, const RequestHead& head,
                                          StreamRequest::Kind kind) {
  const std::string key = head.Header("sec-websocket-key");
  if (head.method != "GET" || head.Header("sec-websocket-version") != "13" || key.size() != 24) {
    Refuse(connection, 400, "not a WebSocket handshake of version 13");
    return std::nullopt;
  }
  const std::vector<std::string> offered = head.List("sec-websocket-protocol");
  const bool forward = kind == StreamRequest::Kind::kPortForward;
  const char* chosen = ChooseWebSocketProtocol(offered);
  if (forward)
    chosen = head.Has("sec-websocket-protocol", kTunnelProtocol) ? kTunnelProtocol : nullptr;
  if (chosen == nullptr && (forward || !offered.empty())) {
    Refuse(connection, 403, "none of the offered subprotocols is spoken here");
    return std::nullopt;
  }
  connection.out() +=
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
      "Upgrade\r\nSec-WebSocket-Accept: " +
      WebSocketAccept(key) + "\r\n";
  if (chosen != nullptr)
    connection.out() += std::string("Sec-WebSocket-Protocol: ") + chosen + "\r\n";
  connection.out() += "\r\n";
  return Upgrade{.web_socket = true, .protocol = chosen != nullptr ? chosen : ""};
}

std::optional<Upgrade> UpgradeToSpdy(Connection& connection, const RequestHead& head,
                                     StreamRequest::Kind kind) {
  const std::vector<std::string> offered = head.List("x-stream-protocol-version");
  if (offered.empty()) {
    Refuse(connection, 400, "X-Stream-Protocol-Version: missing");
    return std::nullopt;
  }
  const bool forward = kind == StreamRequest::Kind::kPortForward;
  const char* chosen = ChooseSpdyProtocol(offered);
  if (forward)
    chosen = head.Has("x-stream-protocol-version", kPortForwardProtocol) ? kPortForwardProtocol
                                                                         : nullptr;
  if (chosen == nullptr) {
    const std::string accepted =
        forward ? kPortForwardProtocol
                : "v4.channel.k8s.io, v3.channel.k8s.io, v2.channel.k8s.io, channel.k8s.io";
    Refuse(connection, 403, "none of the offered stream protocols is spoken here",
           {"X-Accepted-Stream-Protocol-Versions: " + accepted});
    return std::nullopt;
  }
  connection.out() += std::string(
                          "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "
                          "SPDY/3.1\r\nX-Stream-Protocol-Version: ") +
                      chosen + "\r\n\r\n";
  return Upgrade{.web_socket = false, .protocol = chosen};
}

std::optional<Upgrade> Negotiate(Connection& connection, const RequestHead& head,
                                 StreamRequest::Kind kind) {
  if (head.Has("upgrade", "websocket") && head.Has("connection", "upgrade"))
    return UpgradeToWebSocket(connection, head, kind);
  if (head.Has("upgrade", "SPDY/3.1") && head.Has("connection", "upgrade"))
    return UpgradeToSpdy(connection, head, kind);
  Refuse(connection, 400, "a request to upgrade to SPDY/3.1 or websocket is wanted");
  return std::nullopt;
}

void Run(Connection& connection, const Upgrade& upgrade, const StreamRequest& request,
         pods::StreamTargets& pods, std::string early) {
  const auto begin = steady_clock::now();
  const bool forward = request.kind == StreamRequest::Kind::kPortForward;
  Result<void> done;
  if (forward) {
    done = RunPortForward(connection, upgrade.web_socket ? Framing::kWebSocket : Framing::kPlain,
                          request.id, pods, std::move(early));
  } else {
    const int version = VersionOf(upgrade.protocol);
    const std::unique_ptr<Remote> remote =
        upgrade.web_socket ? MakeWebSocketRemote(request, version, connection.out())
                           : MakeSpdyRemote(request, version);
    auto* const run = request.kind == StreamRequest::Kind::kExec ? RunExec : RunAttach;
    auto status = run(connection, *remote, request, pods, std::move(early));
    if (!status)
      done = std::move(status).error();
    else if (status->kind == StreamStatus::Kind::kFailure)
      done = Internal(status->message);
  }
  const auto took =
      std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - begin).count();
  const char* key = forward ? "pod" : "ctr";
  if (done) {
    log::Debug("stream ended", {{"kind", PathOf(request.kind)}, {key, request.id}, {"ms", took}});
  } else {
    log::Info(
        "stream ended early",
        {{"kind", PathOf(request.kind)}, {key, request.id}, {"ms", took}, {"err", done.error()}});
  }
}

}  // namespace

Result<std::unique_ptr<StreamingServer>> StreamingServer::Start(const ServerOptions& options,
                                                                pods::StreamTargets& pods) {
  std::unique_ptr<TlsSource> tls;
  if (options.tls.certificate.empty() != options.tls.key.empty())
    return InvalidArgument("streaming: tls_cert_file and tls_key_file belong together");
  if (options.tls.certificate.empty() && !options.tls.client_ca.empty())
    return InvalidArgument("streaming.tls_client_ca_file: only with tls_cert_file");
  if (!options.tls.certificate.empty())
    tls = LN_TRY_CTX(TlsSource::Load(options.tls), "streaming.tls_cert_file");
  Listener listener = LN_TRY_CTX(Listen(options.address, tls ? "https" : "http"),
                                 "streaming.address " + options.address);
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return Error::FromErrno(errno, "eventfd");
  std::unique_ptr<StreamingServer> out(new StreamingServer(std::move(listener.socket),
                                                           std::move(stop), std::move(listener.url),
                                                           std::move(tls), options.times, pods));
  StreamingServer* server = out.get();
  try {
    out->acceptor_ = std::thread([server] { server->Accept(); });
  } catch (const std::system_error& error) {
    return Error::FromErrno(error.code().value(), "start of a thread");
  }
  return out;
}

StreamingServer::StreamingServer(UniqueFd listener, UniqueFd stop, std::string url,
                                 std::unique_ptr<TlsSource> tls, Times times,
                                 pods::StreamTargets& pods)
    : listener_(std::move(listener)),
      stop_(std::move(stop)),
      url_(std::move(url)),
      tls_(std::move(tls)),
      times_(times),
      pods_(pods),
      tickets_(url_) {}

StreamingServer::~StreamingServer() {
  const std::uint64_t one = 1;
  (void)!write(stop_.get(), &one, sizeof one);  // an eventfd takes it
  if (acceptor_.joinable()) acceptor_.join();
  std::thread last;
  {
    MutexLock lock(mu_);
    while (!live_.empty()) idle_.Wait(mu_);
    last = std::move(ended_);
  }
  if (last.joinable()) last.join();
}

void StreamingServer::Accept() {
  (void)pthread_setname_np(pthread_self(), "stream-accept");
  while (true) {
    std::array<pollfd, 2> wait = {{{.fd = listener_.get(), .events = POLLIN, .revents = 0},
                                   {.fd = stop_.get(), .events = POLLIN, .revents = 0}}};
    if (poll(wait.data(), wait.size(), -1) < 0 && errno != EINTR) return;
    if (wait[1].revents != 0) return;
    UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      if (errno == EMFILE || errno == ENFILE)
        (void)poll(&wait[1], 1, 100);  // until somebody closes something
      continue;
    }
    Start(std::move(socket));
  }
}

void StreamingServer::Start(UniqueFd socket) {
  const auto set = [&socket](int level, int name, int value) {
    (void)setsockopt(socket.get(), level, name, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kKeepIdle);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kKeepInterval);
  set(IPPROTO_TCP, TCP_KEEPCNT, kKeepCount);
  MutexLock lock(mu_);
  if (live_.size() >= kMaxConnections) return;  // closed unheard
  // Its thread sees the hang-up and takes it off the list. Those before it were told already.
  if (strangers_.size() >= kMaxStrangers) {
    const auto nth = static_cast<std::ptrdiff_t>(strangers_.size() - kMaxStrangers);
    (void)shutdown(std::next(strangers_.begin(), nth)->get(), SHUT_RDWR);
  }
  const auto self = live_.emplace(live_.end());
  const auto stranger = strangers_.insert(strangers_.end(), socket);
  try {
    *self = std::thread([this, self, stranger,
                         connection = Connection(std::move(socket), stop_, times_)]() mutable {
      (void)pthread_setname_np(pthread_self(), "stream");
      Serve(connection, stranger);
      { const Connection gone = std::move(connection); }
      Finished(self);
    });
  } catch (const std::system_error&) {
    live_.erase(self);
    strangers_.erase(stranger);
  }
}

void StreamingServer::Finished(Threads::iterator self) {
  std::thread previous;
  {
    MutexLock lock(mu_);
    previous = std::exchange(ended_, std::move(*self));
  }
  if (previous.joinable()) previous.join();
  MutexLock lock(mu_);
  live_.erase(self);
  idle_.NotifyAll();
}

// What it wants, once it has said so and shown that it may; else it was told what is wrong.
std::optional<StreamRequest> StreamingServer::Introduce(Connection& connection, std::string& rest,
                                                        Upgrade& upgrade) {
  const Deadline deadline = steady_clock::now() + times_.introduction;
  if (tls_) {
    auto session = tls_->Accept(connection.socket());
    Result<void> started = session ? connection.StartTls(*std::move(session), deadline)
                                   : Result<void>(std::move(session).error());
    if (!started) {
      log::Debug("stream refused", {{"err", started.error()}});
      return std::nullopt;
    }
  }
  auto text = ReadHead(connection, rest, deadline);
  if (!text) {
    if (text.error().Is(Code::kResourceExhausted)) Refuse(connection, 431, text.error().message());
    if (text.error().Is(Code::kDeadlineExceeded)) Refuse(connection, 408, "no request came");
    return std::nullopt;
  }
  const auto head = ParseRequestHead(*text);
  if (!head) {
    Refuse(connection, 400, head.error().message());
    return std::nullopt;
  }
  if (head->method != "GET" && head->method != "POST") {
    Refuse(connection, 405, "GET or POST");
    return std::nullopt;
  }
  auto request = tickets_.Redeem(head->path);
  if (!request) {
    Refuse(connection, 404, request.error().message());
    return std::nullopt;
  }
  auto agreed = Negotiate(connection, *head, request->kind);
  if (!agreed) return std::nullopt;
  upgrade = *std::move(agreed);
  return *std::move(request);
}

void StreamingServer::Serve(Connection& connection, Strangers::iterator stranger) {
  std::string rest;
  Upgrade upgrade;
  const auto request = Introduce(connection, rest, upgrade);
  if (!request) connection.Finish(Connection::Goodbye::kHangUp);
  {
    MutexLock lock(mu_);
    strangers_.erase(stranger);
  }
  if (request) Run(connection, upgrade, *request, pods_, std::move(rest));
}

}  // namespace linnet::cri::streaming
