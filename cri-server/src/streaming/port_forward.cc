#include "port_forward.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <list>

#include "linnet/base/text.h"

#include "spdy.h"
#include "websocket.h"

namespace linnet::cri::streaming {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kMaxPairs = 512;
// Waiting for pods to take it, of all pairs: beyond, the client has to wait. SPDY's streams cannot
// be held back one by one.
constexpr std::size_t kMaxWaiting = 8U << 20;
constexpr int kMinSplice = 16384, kRelayBytes = 1 << 20;
constexpr auto kConnectTime = std::chrono::seconds(30);
constexpr auto kLinger = std::chrono::seconds(1);  // for what a client that has gone had sent

// A connection into the pod. It begins with the error stream, the data stream comes next.
struct Pair {
  std::string request;  // the client's name for it
  std::uint16_t port = 0;
  std::uint32_t error_stream = 0, data_stream = 0;
  UniqueFd socket;
  Family family = Family::kV4;
  bool connecting = false, data_seen = false;
  bool client_ended = false, shut = false;  // no more from the client; told to the pod
  bool pod_ended = false, served = false;
  std::string to_pod, first_refusal;
  std::size_t sent = 0;
  Deadline deadline = Deadline::max();  // for the second stream, or for the connection

  std::size_t waiting() const { return to_pod.size() - sent; }
};

int ConnectTo(FdRef socket, Family family, std::uint16_t port) {
  if (family == Family::kV4) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0
               ? 0
               : errno;
  }
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_addr = in6addr_loopback;
  return connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0
             ? 0
             : errno;
}

class Forwarder final : SpdyHandler, WebSocketHandler {
 public:
  Forwarder(Connection& connection, Framing framing, const std::string& pod_id,
            pods::StreamTargets& pods)
      : connection_(connection), framing_(framing), pod_id_(pod_id), pods_(pods) {}

  Result<void> Run(std::string early) {
    const Result<void> done = [&]() -> Result<void> {
      LN_TRY(Feed(early));
      while (true) {
        Commit();
        LN_TRY(connection_.Flush());
        LN_TRY(Step());
      }
    }();
    if (!done.error().Is(Code::kCancelled)) DeliverRest();
    // To say goodbye is the end one hopes for.
    return done.error().Is(Code::kUnavailable) ? Ok() : done;
  }

 private:
  Result<void> Step() {
    const bool room = !connection_.congested();
    std::vector<pollfd> wait;
    std::vector<Pair*> waiting;
    const Deadline idle = steady_clock::now() + connection_.times().idle;
    Deadline deadline = idle;
    std::size_t total = 0;
    for (Pair& pair : pairs_) {
      total += pair.waiting();
      deadline = std::min(deadline, pair.deadline);
      if (!pair.socket) continue;
      const bool write = pair.connecting || pair.waiting() > 0;
      const bool read = room && !pair.connecting && !pair.pod_ended;
      if (!write && !read) continue;
      wait.push_back({.fd = pair.socket.get(),
                      .events = static_cast<short>((read ? POLLIN : 0) | (write ? POLLOUT : 0)),
                      .revents = 0});
      waiting.push_back(&pair);
    }
    const auto waited = connection_.Wait(wait, total < kMaxWaiting, deadline);
    if (!waited && !waited.error().Is(Code::kDeadlineExceeded)) return Result<void>(waited.error());
    if (!waited && steady_clock::now() >= idle) return Result<void>(waited.error());
    for (std::size_t i = 0; i < wait.size(); ++i) {
      if (wait[i].revents == 0) continue;
      if (waiting[i]->connecting)
        OnConnected(*waiting[i]);
      else
        OnReady(*waiting[i], wait[i].revents);
    }
    // Who had room goes behind the others.
    for (auto it = pairs_.begin(), end = pairs_.end(); it != end;) {
      const auto pair = it++;
      if (std::exchange(pair->served, false)) pairs_.splice(pairs_.end(), pairs_, pair);
    }
    if (waited && waited->readable) {
      received_.clear();
      LN_TRY(connection_.Receive(received_));
      LN_TRY(Feed(received_));
      if (received_.size() < kReadBytes / 2) std::string().swap(received_);
    }
    Expire();
    pairs_.remove_if(
        [](const Pair& pair) { return pair.error_stream == 0 && pair.data_stream == 0; });
    return Ok();
  }

  Result<void> Feed(std::string_view bytes) {
    if (framing_ == Framing::kPlain) return spdy_.Feed(bytes, *this);
    return web_socket_.Feed(bytes, *this);
  }
  // SPDY's frames go here.
  std::string& out() { return framing_ == Framing::kPlain ? connection_.out() : frames_; }
  void Commit() {
    if (frames_.empty()) return;
    AppendWebSocketFrame(connection_.out(), WebSocketOp::kBinary, frames_);
    frames_.clear();
  }

  // -------------------------------------------------------------------------------------------
  // from the client

  Result<void> OnMessage(std::string_view piece, bool) override { return spdy_.Feed(piece, *this); }
  Result<void> OnPing(std::string_view payload) override {
    AppendWebSocketFrame(connection_.out(), WebSocketOp::kPong, payload);
    return Ok();
  }
  Result<void> OnClose() override {
    AppendWebSocketClose(connection_.out(), 1000);
    (void)connection_.Flush();  // as far as it goes
    return Unavailable("the client has closed the connection");
  }

  Result<void> OnPing(std::uint32_t id) override {
    if (id % 2 == 1) SpdyEncoder::Ping(out(), id);
    return Ok();
  }
  Result<void> OnStream(std::uint32_t id, const SpdyHeaders& headers, bool fin) override {
    const auto get = [&headers](const char* name) {
      const auto it = headers.find(name);
      return it == headers.end() ? std::string() : it->second;
    };
    const std::string type = get("streamtype");
    const auto port = ParseNumber<std::uint16_t>(get("port"));
    const bool is_error = type == "error", is_data = type == "data";
    if (!port || *port == 0 || is_error == is_data) return Refuse(id);
    // Old clients name nothing: the data stream is the one after its error stream.
    std::string request = get("requestid");
    if (request.empty()) request = "#" + std::to_string(is_error ? id : id - 2);
    Pair* pair = FindBy([&](const Pair& p) { return p.request == request; });
    if (pair == nullptr) {
      if (pairs_.size() >= kMaxPairs) return Refuse(id);
      pair = &pairs_.emplace_back();
      pair->request = request;
      pair->port = *port;
      pair->deadline = steady_clock::now() + connection_.times().creation;
    }
    if (pair->port != *port || (is_error ? pair->error_stream : pair->data_stream) != 0 ||
        (is_data && pair->data_seen)) {
      return Refuse(id);
    }
    (is_error ? pair->error_stream : pair->data_stream) = id;
    encoder_.SynReply(out(), id);
    if (is_data) {
      pair->data_seen = true;
      pair->client_ended = fin;
    }
    if (pair->error_stream != 0 && pair->data_stream != 0) Open(*pair, Family::kV4);
    return Ok();
  }
  Result<void> Refuse(std::uint32_t id) {
    SpdyEncoder::Reset(out(), id, kSpdyRefusedStream);
    return Ok();
  }
  Result<void> OnData(std::uint32_t id, std::string_view piece, bool fin) override {
    Pair* pair = FindBy([&](const Pair& p) { return p.data_stream == id; });
    if (pair == nullptr || pair->client_ended)
      return Ok();  // of an error stream, or of one that is over
    const bool open = pair->socket && !pair->connecting;
    if (open && pair->waiting() == 0 && !piece.empty()) {
      const ssize_t size = send(pair->socket.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
      if (size > 0) piece.remove_prefix(static_cast<std::size_t>(size));
    }
    pair->to_pod.append(piece);
    pair->client_ended = fin;
    if (open) PushToPod(*pair);
    return Ok();
  }
  Result<void> OnReset(std::uint32_t id) override {
    Pair* pair = FindBy([&](const Pair& p) { return p.data_stream == id || p.error_stream == id; });
    if (pair == nullptr) return Ok();
    if (pair->data_stream == id) {
      pair->data_stream = 0;
      End(*pair, "");
    } else {
      pair->error_stream = 0;
    }
    return Ok();
  }

  // ---------------------------------------------------------------------------------------------------
  // the pod

  void Open(Pair& pair, Family family) {
    pair.family = family;
    pair.deadline = steady_clock::now() + kConnectTime;
    auto socket = pods_.OpenSocket(pod_id_, family);
    if (!socket) return OnRefused(pair, socket.error().message());
    pair.socket = *std::move(socket);
    const int one = 1;
    (void)setsockopt(pair.socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const int err = ConnectTo(pair.socket, family, pair.port);
    pair.connecting = err == EINPROGRESS;
    if (err == 0) {
      pair.deadline = Deadline::max();
      PushToPod(pair);
    } else if (!pair.connecting) {
      OnRefused(pair, Error::FromErrno(err, "connect").message());
    }
  }
  void OnRefused(Pair& pair, const std::string& why) {
    pair.connecting = false;
    if (pair.family == Family::kV4) {
      pair.first_refusal = why;
      return Open(pair, Family::kV6);
    }
    End(pair, "error forwarding port " + std::to_string(pair.port) + " to pod " + pod_id_ +
                  ": localhost: " + pair.first_refusal + "; [::1]: " + why);
  }
  void OnConnected(Pair& pair) {
    int err = 0;
    socklen_t size = sizeof err;
    if (getsockopt(pair.socket.get(), SOL_SOCKET, SO_ERROR, &err, &size) != 0) err = errno;
    if (err != 0) return OnRefused(pair, Error::FromErrno(err, "connect").message());
    pair.connecting = false;
    pair.deadline = Deadline::max();
    PushToPod(pair);
  }
  void OnReady(Pair& pair, short events) {
    if (pair.waiting() > 0) PushToPod(pair);
    if (!pair.socket || pair.pod_ended || (events & (POLLIN | POLLHUP | POLLERR)) == 0) return;
    if (connection_.congested() || frames_.size() > kReadBytes) return;  // others were first
    pair.served = true;
    if (SpliceFrom(pair)) return;
    if (buffer_.empty()) buffer_.resize(kReadBytes);
    const ssize_t size = recv(pair.socket.get(), buffer_.data(), buffer_.size(), 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size < 0) return End(pair, "");  // it hung up on us
    if (size > 0)
      return SpdyEncoder::Data(out(), pair.data_stream,
                               {buffer_.data(), static_cast<std::size_t>(size)}, false);
    pair.pod_ended = true;
    SpdyEncoder::Data(out(), pair.data_stream, "", true);
    if (pair.client_ended && pair.waiting() == 0) End(pair, "");
  }
  // Where much is waiting it goes to the client without passing through here. False: it does not.
  bool SpliceFrom(const Pair& pair) {
    int waiting = 0;
    if (framing_ != Framing::kPlain || !connection_.plain() ||
        ioctl(pair.socket.get(), FIONREAD, &waiting) != 0 || waiting < kMinSplice)
      return false;
    if (!relay_[0] && !MakeRelay()) return false;
    const ssize_t moved = splice(pair.socket.get(), nullptr, relay_[1].get(), nullptr,
                                 static_cast<std::size_t>(std::min(waiting, kRelayBytes)),
                                 SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (moved <= 0) return false;
    SpdyEncoder::DataHead(out(), pair.data_stream, static_cast<std::size_t>(moved), false);
    connection_.Splice(relay_[0], static_cast<std::size_t>(moved));
    return true;
  }
  bool MakeRelay() {
    std::array<int, 2> fds{};
    if (pipe2(fds.data(), O_CLOEXEC | O_NONBLOCK) != 0) return false;
    for (std::size_t i = 0; i < fds.size(); ++i) relay_[i] = UniqueFd(fds[i]);
    (void)fcntl(fds[0], F_SETPIPE_SZ, kRelayBytes);  // refused: the usual size
    return true;
  }
  void PushToPod(Pair& pair) {
    while (pair.waiting() > 0) {
      const ssize_t size =
          send(pair.socket.get(), pair.to_pod.data() + pair.sent, pair.waiting(), MSG_NOSIGNAL);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) break;
      if (size < 0) return End(pair, "");
      pair.sent += static_cast<std::size_t>(size);
    }
    if (pair.waiting() == 0) {
      pair.sent = 0;
      std::string().swap(pair.to_pod);
      if (pair.client_ended && !pair.shut) {
        pair.shut = true;
        (void)shutdown(pair.socket.get(), SHUT_WR);
        if (pair.pod_ended) End(pair, "");
      }
    } else if (pair.sent > kReadBytes * 4) {
      pair.to_pod.erase(0, std::exchange(pair.sent, 0));
    }
  }
  // Ends both streams, after saying why on the error stream.
  void End(Pair& pair, std::string_view why) {
    if (pair.error_stream != 0) SpdyEncoder::Data(out(), pair.error_stream, why, true);
    if (pair.data_stream != 0 && !pair.pod_ended)
      SpdyEncoder::Data(out(), pair.data_stream, "", true);
    pair.error_stream = pair.data_stream = 0;
    pair.socket.Reset();
    pair.to_pod.clear();
    pair.sent = 0;
    pair.deadline = Deadline::max();
  }

  void Expire() {
    const auto now = steady_clock::now();
    for (Pair& pair : pairs_) {
      if (pair.deadline > now) continue;
      if (pair.connecting)
        OnRefused(pair, "connect: it took too long");
      else
        End(pair, "the other stream of the pair did not come");
    }
  }
  void DeliverRest() {
    const Deadline until = steady_clock::now() + kLinger;
    while (true) {
      std::vector<pollfd> wait;
      for (Pair& pair : pairs_) {
        if (!pair.socket || pair.connecting || pair.waiting() == 0) continue;
        PushToPod(pair);
        if (pair.socket && pair.waiting() > 0)
          wait.push_back({.fd = pair.socket.get(), .events = POLLOUT, .revents = 0});
      }
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - steady_clock::now());
      if (wait.empty() || left.count() <= 0 || !connection_.WaitOthers(wait, left)) return;
    }
  }

  template <class F>
  Pair* FindBy(F fits) {
    const auto it = std::find_if(pairs_.begin(), pairs_.end(), fits);
    return it == pairs_.end() ? nullptr : &*it;
  }

  Connection& connection_;
  const Framing framing_;
  const std::string& pod_id_;
  pods::StreamTargets& pods_;
  SpdyDecoder spdy_;
  SpdyEncoder encoder_;
  WebSocketDecoder web_socket_;
  std::string frames_, received_;
  std::vector<char> buffer_;
  std::array<UniqueFd, 2> relay_;  // a pipe, empty but while it is spliced
  std::list<Pair> pairs_;          // each has an address that stays
};

}  // namespace

Result<void> RunPortForward(Connection& connection, Framing framing, const std::string& pod_id,
                            pods::StreamTargets& pods, std::string early) {
  Forwarder forwarder(connection, framing, pod_id, pods);
  return forwarder.Run(std::move(early));
}

}  // namespace linnet::cri::streaming
