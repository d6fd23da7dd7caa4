// TLS of the streaming server: a certificate from files, read again when they change.
#pragma once

#include <memory>
#include <string>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

struct ssl_ctx_st;
struct ssl_st;

namespace linnet::cri::streaming {

struct TlsFiles {
  std::string certificate;  // chain, PEM; "": no TLS
  std::string key;          // PEM
  std::string client_ca;    // PEM; "": clients need no certificate
};

// One connection's TLS, over a non-blocking socket. Thread-compatible.
class TlsSession {
 public:
  enum class Outcome : std::uint8_t { kDone, kWantRead, kWantWrite, kGone };
  struct Moved {
    Outcome outcome = Outcome::kDone;
    std::size_t bytes = 0;  // kDone
  };

  explicit TlsSession(ssl_st* ssl) : ssl_(ssl) {}  // takes it
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  Outcome Handshake();
  // Why the handshake did not work, for the log.
  const std::string& problem() const { return problem_; }
  Moved Read(char* buffer, std::size_t size);
  Moved Write(const char* data, std::size_t size);
  // Bytes that were deciphered and not read yet: the socket does not show them.
  bool HasBuffered() const;
  void SayGoodbye();

 private:
  Outcome OutcomeOf(int rc);
  ssl_st* ssl_;
  std::string problem_;
};

// Thread-safe.
class TlsSource {
 public:
  // Reads the files; errors name the one that is wrong.
  static Result<std::unique_ptr<TlsSource>> Load(TlsFiles files);
  ~TlsSource();
  TlsSource(const TlsSource&) = delete;
  TlsSource& operator=(const TlsSource&) = delete;

  // With the certificate as it is on disk now; where that cannot be used, with the last that could.
  Result<std::unique_ptr<TlsSession>> Accept(FdRef socket) LN_EXCLUDES(mu_);

 private:
  using Context = std::shared_ptr<ssl_ctx_st>;  // owners: the source, and sessions made with it
  explicit TlsSource(TlsFiles files) : files_(std::move(files)) {}
  Result<Context> Read() const;
  // Names a state of the files: changes with any of them.
  std::string Stamp() const;

  const TlsFiles files_;
  Mutex mu_;
  Context context_ LN_GUARDED_BY(mu_);
  std::string stamp_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::cri::streaming
