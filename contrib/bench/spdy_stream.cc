#include "spdy_stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "linnet/base/text.h"

namespace linnet::bench {
namespace {

constexpr std::size_t kBuffer = 1U << 20;

void Put32(std::string& out, std::size_t value) {
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(value >> shift & 0xFF));
}
std::uint32_t Get32(const char* at) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(at[i]);
  return value;
}

// Headers, "compressed" into stored blocks; the first of a connection begins the zlib stream.
std::string HeaderBlock(const std::vector<std::pair<std::string, std::string>>& headers,
                        bool first) {
  std::string block;
  Put32(block, headers.size());
  for (const auto& [name, value] : headers) {
    for (const std::string& text : {name, value}) {
      Put32(block, text.size());
      block += text;
    }
  }
  std::string out = first ? "\x78\x01" : "";
  const auto stored = [&out](const std::string& data) {
    const std::size_t size = data.size();
    for (const std::size_t byte :
         {std::size_t{0}, size & 0xFF, size >> 8, ~size & 0xFF, (~size >> 8) & 0xFF})
      out.push_back(static_cast<char>(byte));
    out += data;
  };
  stored(block);
  stored("");
  return out;
}

}  // namespace

Result<SpdyStream> SpdyStream::Open(const std::string& url, const std::string& protocol) {
  const std::string scheme = "http://";
  if (!url.starts_with(scheme)) return InvalidArgument(url + ": only http is spoken here");
  const std::size_t slash = url.find('/', scheme.size());
  const std::string host = url.substr(scheme.size(), slash - scheme.size());
  const std::size_t colon = host.rfind(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (slash == std::string::npos || colon == std::string::npos ||
      inet_pton(AF_INET, host.substr(0, colon).c_str(), &address.sin_addr) != 1)
    return InvalidArgument(url + ": not http://IPV4:PORT/PATH");
  address.sin_port = htons(LN_TRY(ParseNumber<std::uint16_t>(host.substr(colon + 1))));

  SpdyStream out(UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  if (!out.socket_) return Error::FromErrno(errno, "socket");
  const timeval limit = {.tv_sec = 30, .tv_usec = 0};
  const int one = 1;
  (void)setsockopt(out.socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  (void)setsockopt(out.socket_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(out.socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error::FromErrno(errno, "connect to " + host);
  LN_TRY(out.Send("POST " + url.substr(slash) + " HTTP/1.1\r\nHost: " + host +
                  "\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: " +
                  protocol + "\r\n\r\n"));
  std::string in;
  while (in.find("\r\n\r\n") == std::string::npos) {
    char buffer[4096];
    const ssize_t size = recv(out.socket_.get(), buffer, sizeof buffer, 0);
    if (size <= 0) return Unavailable("no answer to the upgrade");
    in.append(buffer, static_cast<std::size_t>(size));
  }
  if (in.find(" 101 ") == std::string::npos) return Unavailable("no upgrade: " + in);
  out.early_ = in.substr(in.find("\r\n\r\n") + 4);
  return out;
}

Result<void> SpdyStream::Send(const std::string& bytes) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t size =
        send(socket_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (size < 0) return Error::FromErrno(errno, "send");
    sent += static_cast<std::size_t>(size);
  }
  return Ok();
}

Result<std::uint32_t> SpdyStream::NewStream(
    const std::vector<std::pair<std::string, std::string>>& headers, bool fin) {
  const std::string block = HeaderBlock(headers, next_id_ == 1);
  const std::uint32_t id = next_id_;
  std::string out;
  Put32(out, 0x80030001);
  Put32(out, (block.size() + 10) | (fin ? 1U << 24 : 0));
  Put32(out, id);
  Put32(out, 0);
  out.append(2, '\0');
  LN_TRY(Send(out + block));
  next_id_ += 2;
  return id;
}

Result<void> SpdyStream::Count(std::map<std::uint32_t, std::uint64_t>& counted, std::size_t ends) {
  std::vector<char> buffer(kBuffer);
  std::copy(early_.begin(), early_.end(), buffer.begin());
  std::size_t have = early_.size(), skip = 0;
  early_.clear();
  while (ends > 0) {
    std::size_t at = 0;
    while (true) {
      const std::size_t payload = std::min(skip, have - at);
      at += payload;
      skip -= payload;
      if (skip > 0 || have - at < 8 || ends == 0) break;
      const std::uint32_t first = Get32(&buffer[at]), second = Get32(&buffer[at + 4]);
      at += 8;
      skip = second & 0xFFFFFF;
      const auto it = counted.find(first);  // no control frame: their first bit is set
      if (it == counted.end()) continue;
      it->second += skip;
      if ((second >> 24 & 1) != 0) --ends;
    }
    std::copy(buffer.begin() + static_cast<std::ptrdiff_t>(at),
              buffer.begin() + static_cast<std::ptrdiff_t>(have), buffer.begin());
    have -= at;
    if (ends == 0) break;
    const ssize_t size = recv(socket_.get(), buffer.data() + have, buffer.size() - have, 0);
    if (size < 0) return Error::FromErrno(errno, "recv");
    if (size == 0) return Unavailable("the server hung up early");
    have += static_cast<std::size_t>(size);
  }
  early_.assign(buffer.data(), have);
  return Ok();
}

Result<SpdyStream> OpenExec(const std::string& url, bool with_stdin) {
  SpdyStream out = LN_TRY(SpdyStream::Open(url, "v4.channel.k8s.io"));
  LN_TRY(out.NewStream({{"streamtype", "error"}}, false));
  LN_TRY(out.NewStream({{"streamtype", "stdout"}}, false));
  if (with_stdin) LN_TRY(out.NewStream({{"streamtype", "stdin"}}, false));
  return out;
}

}  // namespace linnet::bench
