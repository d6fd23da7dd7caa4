// URLs of registries, token servers and blob stores.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "linnet/base/result.h"

namespace linnet::oci {

struct Url {
  std::string scheme;  // "http" or "https"
  std::string host;    // lower case; an IPv6 address with its brackets
  std::uint16_t port = 0;
  std::string path;   // "" or "/…"
  std::string query;  // without "?"

  // Errors: kInvalidArgument, also for user names in URLs and for other schemes.
  static Result<Url> Parse(std::string_view text);
  // A Location header, relative to this URL.
  Result<Url> Resolve(std::string_view location) const;
  std::string str() const;
  // "host" or "host:port" where the port is not the scheme's.
  std::string authority() const;
  bool SameOrigin(const Url& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
  bool IsLoopback() const;
};

// "localhost", "127.0.0.0/8", "::1" (with or without brackets).
bool IsLoopbackHost(std::string_view host);
// "a b&c" → "a%20b%26c"
std::string UrlEncode(std::string_view text);

}  // namespace linnet::oci
