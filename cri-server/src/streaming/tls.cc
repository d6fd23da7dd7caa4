#include "tls.h"

#include <sys/stat.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "linnet/base/log.h"

namespace linnet::cri::streaming {
namespace {

// The first error of the queue, which is emptied.
std::string OpenSslError() {
  const auto code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code != 0 ? ERR_reason_error_string(code) : nullptr;
  return reason != nullptr ? reason : "no reason given";
}

Error Unusable(const std::string& file, const char* as) {
  return FailedPrecondition(file + " cannot be used as " + as + ": " + OpenSslError());
}

}  // namespace

TlsSession::~TlsSession() { SSL_free(ssl_); }

TlsSession::Outcome TlsSession::OutcomeOf(int rc) {
  switch (SSL_get_error(ssl_, rc)) {
    case SSL_ERROR_WANT_READ:
      return Outcome::kWantRead;
    case SSL_ERROR_WANT_WRITE:
      return Outcome::kWantWrite;
    default:
      return Outcome::kGone;
  }
}

TlsSession::Outcome TlsSession::Handshake() {
  ERR_clear_error();
  const int rc = SSL_accept(ssl_);
  if (rc == 1) return Outcome::kDone;
  const Outcome outcome = OutcomeOf(rc);
  if (outcome == Outcome::kGone) problem_ = OpenSslError();
  return outcome;
}

TlsSession::Moved TlsSession::Read(char* buffer, std::size_t size) {
  ERR_clear_error();
  Moved out;
  const int rc = SSL_read_ex(ssl_, buffer, size, &out.bytes);
  if (rc != 1) out.outcome = OutcomeOf(rc);
  return out;
}

TlsSession::Moved TlsSession::Write(const char* data, std::size_t size) {
  ERR_clear_error();
  Moved out;
  const int rc = SSL_write_ex(ssl_, data, size, &out.bytes);
  if (rc != 1) out.outcome = OutcomeOf(rc);
  return out;
}

bool TlsSession::HasBuffered() const { return SSL_pending(ssl_) > 0; }

void TlsSession::SayGoodbye() {
  ERR_clear_error();
  (void)SSL_shutdown(ssl_);  // the client's goodbye is not waited for
}

TlsSource::~TlsSource() = default;

std::string TlsSource::Stamp() const {
  std::string out;
  for (const std::string& file : {files_.certificate, files_.key, files_.client_ca}) {
    struct stat info = {};
    if (file.empty() || stat(file.c_str(), &info) != 0) continue;
    out += std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) + ":" +
           std::to_string(info.st_size) + ":" + std::to_string(info.st_mtim.tv_sec) + "." +
           std::to_string(info.st_mtim.tv_nsec) + ";";
  }
  return out;
}

Result<TlsSource::Context> TlsSource::Read() const {
  ERR_clear_error();
  Context context(SSL_CTX_new(TLS_server_method()), &SSL_CTX_free);
  if (context == nullptr) return Internal("TLS: " + OpenSslError());
  SSL_CTX* ctx = context.get();
  (void)SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  (void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // Tickets and sessions: every URL is used once, nobody comes again.
  (void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
  (void)SSL_CTX_set_num_tickets(ctx, 0);
  (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  (void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
  if (SSL_CTX_use_certificate_chain_file(ctx, files_.certificate.c_str()) != 1)
    return Unusable(files_.certificate, "certificate");
  if (SSL_CTX_use_PrivateKey_file(ctx, files_.key.c_str(), SSL_FILETYPE_PEM) != 1)
    return Unusable(files_.key, "key");
  if (SSL_CTX_check_private_key(ctx) != 1)
    return Unusable(files_.key, ("key of " + files_.certificate).c_str());
  if (!files_.client_ca.empty()) {
    if (SSL_CTX_load_verify_locations(ctx, files_.client_ca.c_str(), nullptr) != 1)
      return Unusable(files_.client_ca, "authority of clients");
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  return context;
}

Result<std::unique_ptr<TlsSource>> TlsSource::Load(TlsFiles files) {
  std::unique_ptr<TlsSource> out(new TlsSource(std::move(files)));
  MutexLock lock(out->mu_);
  out->stamp_ = out->Stamp();
  out->context_ = LN_TRY(out->Read());
  return out;
}

Result<std::unique_ptr<TlsSession>> TlsSource::Accept(FdRef socket) {
  Context context;
  {
    MutexLock lock(mu_);
    if (std::string now = Stamp(); now != stamp_) {
      stamp_ = std::move(now);
      if (auto fresh = Read())
        context_ = *std::move(fresh);
      else  // perhaps only one of them was replaced yet
        log::Warn("streaming: TLS files have changed, going on with the old ones",
                  {{"err", fresh.error()}});
    }
    context = context_;
  }
  SSL* ssl = SSL_new(context.get());  // holds the context
  if (ssl == nullptr) return Internal("TLS: " + OpenSslError());
  auto session = std::make_unique<TlsSession>(ssl);
  if (SSL_set_fd(ssl, socket.get()) != 1) return Internal("TLS: " + OpenSslError());
  return session;
}

}  // namespace linnet::cri::streaming
