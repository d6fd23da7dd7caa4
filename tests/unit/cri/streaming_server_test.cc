// The streaming server over real sockets, with scripted processes behind it: what clients get, and
// what those who mean harm do not.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <list>
#include <thread>

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "linnet/base/file.h"
#include "linnet/base/text.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "spdy_client.h"
#include "streaming/server.h"

namespace linnet::cri::streaming {
namespace {

using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): literals
using std::chrono::steady_clock;

// ---------------------------------------------------------------------------------------------
// processes

struct Streams {
  UniqueFd in, out, err;
  UniqueFd terminal;  // the process's side
};
using Script = std::function<int(Streams&)>;  // on a thread of its own; returns the exit code

UniqueFd Copy(FdRef fd) { return UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

class FakeSession final : public runtime::ExecSession {
 public:
  FakeSession(const pods::ExecRequest& request, const Script& script)
      : ended_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    Streams streams;
    if (request.terminal) {
      master_ = UniqueFd(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
      int lock = 0;
      (void)ioctl(master_.get(), TIOCSPTLCK, &lock);
      const winsize size = {
          .ws_row = request.rows, .ws_col = request.columns, .ws_xpixel = 0, .ws_ypixel = 0};
      (void)ioctl(master_.get(), TIOCSWINSZ, &size);
      streams.terminal = UniqueFd(ioctl(master_.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    }
    if (request.stdin_fd.valid()) streams.in = Copy(request.stdin_fd);
    if (request.stdout_fd.valid()) streams.out = Copy(request.stdout_fd);
    if (request.stderr_fd.valid()) streams.err = Copy(request.stderr_fd);
    if (!script) {
      held_ = std::move(streams);  // it does nothing, and does not end
      return;
    }
    process_ = std::thread([this, script, streams = std::move(streams)]() mutable {
      const int code = script(streams);
      streams = {};
      code_ = code;
      const std::uint64_t one = 1;
      (void)!write(ended_.get(), &one, sizeof one);
    });
  }
  ~FakeSession() override {
    if (process_.joinable()) process_.join();
  }
  UniqueFd TakeTerminal() override { return std::move(master_); }
  FdRef ended() const override { return ended_; }
  Result<std::optional<runtime::ExecResult>> Poll() override {
    if (code_ < 0) return std::optional<runtime::ExecResult>();
    runtime::ExecResult result;
    result.exit_code = code_;
    return std::optional(result);
  }
  void Kill() override {}

 private:
  UniqueFd ended_, master_;
  Streams held_;
  std::atomic<int> code_ = -1;
  std::thread process_;
};

class FakePods final : public pods::StreamTargets {
 public:
  Result<std::unique_ptr<runtime::ExecSession>> Exec(const std::string&,
                                                     const pods::ExecRequest& request) override {
    return std::unique_ptr<runtime::ExecSession>(std::make_unique<FakeSession>(request, script));
  }
  Result<runtime::Attachment> Attach(const std::string&, const runtime::AttachSpec&) override {
    return FailedPrecondition("nothing to attach to");
  }
  Result<UniqueFd> OpenSocket(const std::string&, Family family) override {
    return UniqueFd(socket(family == Family::kV4 ? AF_INET : AF_INET6,
                           SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  }
  Script script;
};

int Cat(Streams& streams) {
  std::vector<char> buffer(65536);
  ssize_t size = 0;
  while ((size = read(streams.in.get(), buffer.data(), buffer.size())) > 0) {
    for (ssize_t at = 0, n = 0; at < size; at += n) {
      n = write(streams.out.get(), buffer.data() + at, static_cast<std::size_t>(size - at));
      if (n < 0) return 1;
    }
  }
  return 0;
}

std::string Noise(std::size_t size) {
  std::string out(size, '\0');
  std::uint32_t state = 1;
  for (char& c : out) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return out;
}

// ---------------------------------------------------------------------------------------------
// clients

class Client {
 public:
  explicit Client(std::uint16_t port) : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              0);
    const timeval limit = {.tv_sec = 20, .tv_usec = 0};
    (void)setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~Client() {
    if (ssl_ != nullptr) SSL_free(ssl_);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // True: the handshake worked, as far as the client can tell.
  bool StartTls(SSL_CTX* context) {
    ssl_ = SSL_new(context);
    SSL_set_fd(ssl_, socket_.get());
    return SSL_connect(ssl_) == 1;
  }
  bool Send(std::string_view data) {
    while (!data.empty()) {
      const auto sent = ssl_ != nullptr
                            ? SSL_write(ssl_, data.data(), static_cast<int>(data.size()))
                            : send(socket_.get(), data.data(), data.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      data.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  // A piece; "" at the end.
  std::string Receive() {
    std::string out(65536, '\0');
    const auto got = ssl_ != nullptr ? SSL_read(ssl_, out.data(), static_cast<int>(out.size()))
                                     : recv(socket_.get(), out.data(), out.size(), 0);
    out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return out;
  }
  std::string ReceiveAll() {
    std::string out;
    while (true) {
      const std::string piece = Receive();
      if (piece.empty()) return out;
      out += piece;
    }
  }
  // The head of an answer; what comes behind it stays for Receive of frames.
  std::string Head() {
    while (rest.find("\r\n\r\n") == std::string::npos) {
      const std::string piece = Receive();
      if (piece.empty()) return rest;
      rest += piece;
    }
    const std::size_t end = rest.find("\r\n\r\n") + 4;
    const std::string head = rest.substr(0, end);
    rest.erase(0, end);
    return head;
  }
  int fd() const { return socket_.get(); }
  void ResetConnection() {
    const linger hard = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    socket_.Reset();
  }
  std::string rest;

 private:
  UniqueFd socket_;
  SSL* ssl_ = nullptr;
};

std::string UpgradeRequest(const std::string& path, const char* protocol = "v4.channel.k8s.io") {
  return "POST " + path +
         " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
         "X-Stream-Protocol-Version: " +
         protocol + "\r\n\r\n";
}

// An exec over SPDY: error 1, stdin 3, stdout 5, stderr or resize 7.
class Exec {
 public:
  Exec(Client& client, const std::string& path, bool tty = false) : client_(client) {
    EXPECT_TRUE(client_.Send(UpgradeRequest(path)));
    const std::string head = client_.Head();
    EXPECT_TRUE(head.starts_with("HTTP/1.1 101 ")) << head;
    std::string bytes;
    std::uint32_t id = 1;
    for (const char* type : {"error", "stdin", "stdout", tty ? "resize" : "stderr"}) {
      bytes += frames_.SynStream(id, {{"streamtype", type}});
      id += 2;
    }
    EXPECT_TRUE(client_.Send(bytes));
  }
  void Input(std::string_view data, bool end) {
    std::string bytes;
    SpdyEncoder::Data(bytes, 3, data, end);
    EXPECT_TRUE(client_.Send(bytes));
  }
  void Resize(const std::string& json) {
    std::string bytes;
    SpdyEncoder::Data(bytes, 7, json, false);
    EXPECT_TRUE(client_.Send(bytes));
  }
  struct Answer {
    std::string out, err, status;
  };
  // Until the status has come, or the server hangs up.
  Answer Finish() {
    Answer answer;
    std::string in = std::move(client_.rest);
    std::size_t at = 0;
    bool ended = false;
    const auto number = [&](std::size_t where) {
      std::uint32_t value = 0;
      for (std::size_t i = 0; i < 4; ++i)
        value = value << 8 | static_cast<unsigned char>(in[where + i]);
      return value;
    };
    while (!ended) {
      while (in.size() - at >= 8) {
        const std::uint32_t stream = number(at), size = number(at + 4) & 0xFFFFFF;
        if (in.size() - at - 8 < size) break;
        const std::string_view payload = std::string_view(in).substr(at + 8, size);
        if (stream == 5) answer.out += payload;
        if (stream == 7) answer.err += payload;
        if (stream == 1) answer.status += payload;
        ended = ended || (stream == 1 && (number(at + 4) >> 24) == 1);
        at += 8 + size;
      }
      const std::string piece = ended ? "" : client_.Receive();
      if (piece.empty()) break;
      in.erase(0, std::exchange(at, 0));
      in += piece;
    }
    EXPECT_EQ(at, in.size()) << "a frame is not whole, or comes behind the status";
    return answer;
  }

 private:
  Client& client_;
  SpdyClient frames_;
};

class StreamingServerTest : public ::testing::Test {
 protected:
  void Start(ServerOptions options = {}) {
    std::signal(SIGPIPE, SIG_IGN);
    options.times.introduction =
        std::min<std::chrono::milliseconds>(options.times.introduction, 2s);
    server_ = LN_ASSERT_OK(StreamingServer::Start(options, pods_));
    port_ = LN_ASSERT_OK(
        ParseNumber<std::uint16_t>(server_->url().substr(server_->url().rfind(':') + 1)));
  }
  std::string ExecPath(bool tty = false) {
    return PathOf({.kind = StreamRequest::Kind::kExec,
                   .id = "c",
                   .command = {"x"},
                   .tty = tty,
                   .stdin_open = true,
                   .stdout_open = true,
                   .stderr_open = !tty});
  }
  std::string ForwardPath() {
    return PathOf({.kind = StreamRequest::Kind::kPortForward, .id = "p", .command = {}});
  }
  std::string PathOf(StreamRequest request) {
    const auto url = server_->tickets().Issue(std::move(request));
    return url ? url->substr(server_->url().size()) : url.error().message();
  }
  static std::size_t StreamThreads() {
    std::size_t count = 0;
    std::error_code ignored;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
      const auto name = ReadFile(task.path().string() + "/comm");
      count += name && *name == "stream\n" ? 1 : 0;
    }
    return count;
  }
  static bool Soon(const std::function<bool()>& is, std::chrono::milliseconds limit) {
    const auto until = steady_clock::now() + limit;
    while (!is()) {
      if (steady_clock::now() > until) return false;
      std::this_thread::sleep_for(5ms);
    }
    return true;
  }

  testing::TempDir dir_;
  FakePods pods_;
  std::unique_ptr<StreamingServer> server_;
  std::uint16_t port_ = 0;
};

// ---------------------------------------------------------------------------------------------
// what clients get

TEST_F(StreamingServerTest, Exec_CopiesInputAndOutputAndSaysHowItEnded) {
  pods_.script = Cat;
  Start();
  const std::string data = Noise(3 << 20);
  Client client(port_);
  Exec exec(client, ExecPath());
  std::thread sender([&] { exec.Input(data, true); });
  const auto answer = exec.Finish();
  sender.join();
  EXPECT_EQ(answer.out.size(), data.size());
  EXPECT_TRUE(answer.out == data);
  EXPECT_NE(answer.status.find("\"Success\""), std::string::npos) << answer.status;
}

TEST_F(StreamingServerTest, Exec_OutputInPiecesOfAllSizesComesInOrder) {
  // Small ones are copied, large ones spliced; both streams share the connection.
  const std::string data = Noise(2 << 20);
  pods_.script = [&](Streams& streams) {
    std::size_t at = 0, step = 1;
    while (at < data.size()) {
      const std::string_view piece = std::string_view(data).substr(at, step);
      const ssize_t n = write(streams.out.get(), piece.data(), piece.size());
      if (n < 0) return 1;
      if (step % 3 == 0) (void)!write(streams.err.get(), "e", 1);
      at += static_cast<std::size_t>(n);
      step = step * 5 % 100003 + 1;
    }
    return 3;
  };
  Start();
  Client client(port_);
  const auto answer = Exec(client, ExecPath()).Finish();
  EXPECT_TRUE(answer.out == data) << answer.out.size();
  EXPECT_FALSE(answer.err.empty());
  EXPECT_EQ(answer.err.find_first_not_of('e'), std::string::npos);
  EXPECT_NE(answer.status.find("\"ExitCode\""), std::string::npos);
}

TEST_F(StreamingServerTest, Exec_ProcessThatTakesBackItsOutputHoldsUpNobody) {
  // Its pipe can be opened for reading by /proc.
  pods_.script = [](Streams& streams) {
    const std::string name = "/proc/self/fd/" + std::to_string(streams.out.get());
    const UniqueFd back(open(name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    const std::string data = Noise(65536);
    std::vector<char> buffer(65536);
    for (int i = 0; i < 2000; ++i) {
      (void)!write(streams.out.get(), data.data(), data.size() / 2);
      (void)!read(back.get(), buffer.data(), buffer.size());
    }
    return 0;
  };
  Start();
  Client client(port_);
  const std::string path = ExecPath();
  ASSERT_TRUE(client.Send(UpgradeRequest(path)));
  SpdyClient frames;
  for (const auto& [id, type] : {std::pair{1U, "error"}, std::pair{3U, "stdin"},
                                 std::pair{5U, "stdout"}, std::pair{7U, "stderr"}})
    ASSERT_TRUE(client.Send(frames.SynStream(id, {{"streamtype", type}})));
  const timeval limit = {.tv_sec = 1, .tv_usec = 0};
  (void)setsockopt(client.fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  (void)client.ReceiveAll();  // whole frames or not: that it ends is the point
  client.ResetConnection();
  EXPECT_TRUE(Soon([] { return StreamThreads() == 0; }, 15s));
}

TEST_F(StreamingServerTest, Exec_TerminalHasItsSizeFromTheBeginning) {
  winsize seen = {};
  pods_.script = [&](Streams& streams) {
    (void)ioctl(streams.terminal.get(), TIOCGWINSZ, &seen);
    return 0;
  };
  Start({.times = {.first_size = 10s}});
  Client client(port_);
  Exec exec(client, ExecPath(true), true);
  std::this_thread::sleep_for(30ms);  // later than the streams
  exec.Resize(R"({"Width":101,"Height":33})");
  exec.Finish();
  EXPECT_EQ(seen.ws_col, 101);
  EXPECT_EQ(seen.ws_row, 33);
}

TEST_F(StreamingServerTest, Exec_TerminalOfAClientWithoutOneStartsAllTheSame) {
  pods_.script = [](Streams& streams) {
    (void)!write(streams.terminal.get(), "hi", 2);
    return 0;
  };
  Start();
  Client client(port_);
  const auto begin = steady_clock::now();
  EXPECT_EQ(Exec(client, ExecPath(true), true).Finish().out, "hi");
  EXPECT_LT(steady_clock::now() - begin, 5s);
}

// ---------------------------------------------------------------------------------------------
// TLS

struct Certificate {
  std::string certificate, key;  // files
};

// Signed by itself.
Certificate MakeCertificate(const testing::TempDir& dir, const std::string& name) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* x509 = X509_new();
  X509_set_version(x509, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
  X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
  X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
  X509_set_pubkey(x509, key);
  X509_NAME* subject = X509_get_subject_name(x509);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(x509, subject);
  X509_sign(x509, key, EVP_sha256());
  const Certificate out = {dir / (name + ".crt"), dir / (name + ".key")};
  FILE* file = fopen(out.certificate.c_str(), "we");
  PEM_write_X509(file, x509);
  fclose(file);
  file = fopen(out.key.c_str(), "we");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  fclose(file);
  X509_free(x509);
  EVP_PKEY_free(key);
  return out;
}

using Context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;
// Trusts only that certificate.
Context Trusting(const Certificate& certificate) {
  Context out(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  SSL_CTX_load_verify_locations(out.get(), certificate.certificate.c_str(), nullptr);
  SSL_CTX_set_verify(out.get(), SSL_VERIFY_PEER, nullptr);
  return out;
}

TEST_F(StreamingServerTest, Tls_CarriesStreamsBothWays) {
  pods_.script = Cat;
  const Certificate own = MakeCertificate(dir_, "own");
  Start({.tls = {.certificate = own.certificate, .key = own.key}});
  EXPECT_TRUE(server_->url().starts_with("https://"));
  const Context context = Trusting(own);
  const std::string data = Noise(1 << 19);
  Client client(port_);
  ASSERT_TRUE(client.StartTls(context.get()));
  Exec exec(client, ExecPath());
  // One after the other: a client's SSL is not for two threads. What does not fit waits in between.
  for (std::size_t at = 0; at < data.size(); at += 16384)
    exec.Input(std::string_view(data).substr(at, 16384), at + 16384 >= data.size());
  const auto answer = exec.Finish();
  EXPECT_TRUE(answer.out == data) << answer.out.size();
}

TEST_F(StreamingServerTest, Tls_RefusesPlainClientsAndThoseWithoutCertificate) {
  const Certificate own = MakeCertificate(dir_, "own"), client_ca = MakeCertificate(dir_, "client");
  Start({.tls = {
             .certificate = own.certificate, .key = own.key, .client_ca = client_ca.certificate}});
  Client plain(port_);
  ASSERT_TRUE(plain.Send(UpgradeRequest(ExecPath())));
  EXPECT_EQ(plain.ReceiveAll().find("101"), std::string::npos);

  const Context context = Trusting(own);
  Client stranger(port_);
  if (stranger.StartTls(context.get())) {  // TLS 1.3 tells the client with its first answer
    (void)stranger.Send(UpgradeRequest(ExecPath()));
    EXPECT_EQ(stranger.ReceiveAll(), "");
  }
  SSL_CTX_use_certificate_file(context.get(), client_ca.certificate.c_str(), SSL_FILETYPE_PEM);
  SSL_CTX_use_PrivateKey_file(context.get(), client_ca.key.c_str(), SSL_FILETYPE_PEM);
  pods_.script = [](Streams&) { return 0; };
  Client known(port_);
  ASSERT_TRUE(known.StartTls(context.get()));
  EXPECT_NE(Exec(known, ExecPath()).Finish().status, "");
}

TEST_F(StreamingServerTest, Tls_TakesANewCertificateAndKeepsTheOldWhileThatIsBroken) {
  const Certificate own = MakeCertificate(dir_, "own"), later = MakeCertificate(dir_, "later");
  Start({.tls = {.certificate = own.certificate, .key = own.key}});
  const auto trusted = [&](const Certificate& certificate) {
    const Context context = Trusting(certificate);
    Client client(port_);
    return client.StartTls(context.get());
  };
  EXPECT_TRUE(trusted(own));
  LN_ASSERT_OK(ReplaceFile(own.key, LN_ASSERT_OK(ReadFile(later.key)), 0600));
  EXPECT_TRUE(trusted(own)) << "the key does not fit yet";
  LN_ASSERT_OK(ReplaceFile(own.certificate, LN_ASSERT_OK(ReadFile(later.certificate)), 0600));
  EXPECT_TRUE(trusted(later));
}

TEST_F(StreamingServerTest, Tls_FilesThatCannotBeUsedAreNamed) {
  const Certificate own = MakeCertificate(dir_, "own"), other = MakeCertificate(dir_, "other");
  const auto problem = [&](TlsFiles files) {
    auto server = StreamingServer::Start({.tls = std::move(files)}, pods_);
    return server ? "" : server.error().message();
  };
  EXPECT_NE(problem({.certificate = dir_ / "none", .key = own.key}).find("none"),
            std::string::npos);
  EXPECT_NE(problem({.certificate = own.certificate, .key = other.key}).find("other.key"),
            std::string::npos);
  EXPECT_NE(problem({.certificate = own.certificate}), "");
  EXPECT_NE(problem({.client_ca = own.certificate}), "");
}

// ---------------------------------------------------------------------------------------------
// who is late

TEST_F(StreamingServerTest, Head_ThatDoesNotEndInTimeIsRefused) {
  Start({.times = {.introduction = 300ms}});
  Client client(port_);
  ASSERT_TRUE(client.Send("GET /exec/0 HTTP/1.1\r\n"));
  const auto begin = steady_clock::now();
  std::thread trickle([&] {
    for (int i = 0; i < 40 && client.Send("a: b\r\n"); ++i) std::this_thread::sleep_for(20ms);
  });
  EXPECT_TRUE(client.ReceiveAll().starts_with("HTTP/1.1 408 "));
  EXPECT_LT(steady_clock::now() - begin, 10s);
  trickle.join();
}

TEST_F(StreamingServerTest, Streams_ThatAreNotOpenedInTimeEndIt) {
  Start({.times = {.creation = 200ms}});
  Client client(port_);
  ASSERT_TRUE(client.Send(UpgradeRequest(ExecPath())));
  SpdyClient frames;
  ASSERT_TRUE(client.Send(frames.SynStream(1, {{"streamtype", "error"}})));
  (void)client.ReceiveAll();  // comes to an end
  EXPECT_TRUE(Soon([] { return StreamThreads() == 0; }, 2s));
}

TEST_F(StreamingServerTest, Idle_StreamsAreHungUp) {
  Start({.times = {.idle = 200ms, .orphan = 100ms}});
  Client client(port_);
  Exec exec(client, ExecPath());
  (void)client.ReceiveAll();
  Client forward(port_);
  ASSERT_TRUE(forward.Send(UpgradeRequest(ForwardPath(), "portforward.k8s.io")));
  (void)forward.ReceiveAll();
}

TEST_F(StreamingServerTest, Client_ThatResetsInTheMiddleOfOutputLeavesNothing) {
  std::atomic<bool> refused = false;
  pods_.script = [&](Streams& streams) {
    const std::string data = Noise(65536);
    while (write(streams.out.get(), data.data(), data.size()) > 0) {
    }
    refused = errno == EPIPE;
    return 0;
  };
  Start();
  {
    Client client(port_);
    Exec exec(client, ExecPath());
    for (int i = 0; i < 50; ++i) (void)client.Receive();
    client.ResetConnection();
  }
  EXPECT_TRUE(Soon([] { return StreamThreads() == 0; }, 1s));
  EXPECT_TRUE(refused) << "the process sees that nobody reads";
}

// ---------------------------------------------------------------------------------------------
// who means harm

TEST_F(StreamingServerTest, Head_ThatIsTooLargeIsRefused) {
  Start();
  Client client(port_);
  (void)client.Send("GET /exec/0 HTTP/1.1\r\na: " + std::string(1 << 20, 'x'));
  EXPECT_TRUE(client.ReceiveAll().starts_with("HTTP/1.1 431 "));
}

TEST_F(StreamingServerTest, Token_WorksOnceAndOnlyWhole) {
  pods_.script = [](Streams&) { return 0; };
  Start();
  const std::string path = ExecPath();
  const auto status = [&](const std::string& asked) {
    Client client(port_);
    EXPECT_TRUE(client.Send(UpgradeRequest(asked)));
    return client.Head().substr(9, 3);
  };
  EXPECT_EQ(status(path.substr(0, path.size() - 1)), "404");
  EXPECT_EQ(status("/attach" + path.substr(5)), "404");
  EXPECT_EQ(status("/"), "404");
  EXPECT_EQ(status(path), "101");
  EXPECT_EQ(status(path), "404");
}

TEST_F(StreamingServerTest, Strangers_DoNotKeepClientsOut) {
  pods_.script = [](Streams&) { return 0; };
  Start();
  std::list<Client> strangers;
  for (int i = 0; i < 600; ++i) strangers.emplace_back(port_);
  const auto begin = steady_clock::now();
  Client client(port_);
  EXPECT_NE(Exec(client, ExecPath()).Finish().status, "");
  EXPECT_LT(steady_clock::now() - begin, 1500ms) << "not only after the strangers' time";
  EXPECT_TRUE(Soon([] { return StreamThreads() <= 257; }, 1s));
}

// Sends `frame` again and again, reads nothing. How much the server took before it stopped.
std::size_t Flood(Client& client, const std::string& frame) {
  const timeval limit = {.tv_sec = 0, .tv_usec = 300000};
  (void)setsockopt(client.fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  std::string block;
  while (block.size() < 65536) block += frame;
  std::size_t taken = 0;
  while (taken < (256U << 20)) {
    const ssize_t sent = send(client.fd(), block.data(), block.size(), MSG_NOSIGNAL);
    if (sent <= 0) break;
    taken += static_cast<std::size_t>(sent);
    if (static_cast<std::size_t>(sent) < block.size()) break;
  }
  return taken;
}

TEST_F(StreamingServerTest, Floods_OfWhatWantsAnswersAreNotTakenWithoutEnd) {
  Start();
  std::string ping;
  SpdyEncoder::Ping(ping, 1);
  {
    Client client(port_);
    Exec exec(client, ExecPath());
    EXPECT_LT(Flood(client, ping), 32U << 20);  // what the kernel's buffers hold
  }
  Client client(port_);
  ASSERT_TRUE(client.Send(UpgradeRequest(ForwardPath(), "portforward.k8s.io")));
  EXPECT_LT(Flood(client, ping), 32U << 20);
}

// Kilobytes of this process that are its own.
std::size_t OwnKilobytes() {
  std::ifstream in("/proc/self/smaps_rollup");
  std::size_t total = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("Private_Dirty:"))
      total += ParseNumber<std::size_t>(Trim(line.substr(14, line.size() - 17))).value_or(0);
  }
  return total;
}

TEST_F(StreamingServerTest, Sessions_ThatAreIdleCostLittle) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need memory of their own";
#endif
  Start({.times = {.orphan = 100ms}});
  constexpr std::size_t kSessions = 1000;
  rlimit files = {};
  getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_max < 12 * kSessions) GTEST_SKIP() << "RLIMIT_NOFILE is below " << 12 * kSessions;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  std::list<Client> clients;
  const auto open = [&] {
    clients.emplace_back(port_);
    Exec exec(clients.back(), ExecPath());
  };
  open();
  const std::size_t before = OwnKilobytes();
  while (clients.size() <= kSessions) open();
  ASSERT_TRUE(Soon([] { return StreamThreads() == kSessions + 1; }, 10s));
  const std::size_t each = (OwnKilobytes() - before) * 1024 / kSessions;
  RecordProperty("bytes_per_session", std::to_string(each));
  EXPECT_LT(each, 32768U);
  clients.clear();
  EXPECT_TRUE(Soon([] { return StreamThreads() == 0; }, 20s)) << "all end";
}

}  // namespace
}  // namespace linnet::cri::streaming
