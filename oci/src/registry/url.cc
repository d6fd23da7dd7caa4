#include "registry/url.h"

#include <memory>

#include <curl/curl.h>

#include "linnet/base/ip.h"
#include "linnet/base/text.h"

namespace linnet::oci {
namespace {

constexpr std::size_t kMaxUrl = 16U << 10;  // signed URLs of blob stores reach some KiB

struct CurlUrlDeleter {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using CurlUrl = std::unique_ptr<CURLU, CurlUrlDeleter>;

std::string Part(CURLU* url, CURLUPart what, unsigned int flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, what, &text, flags) != CURLUE_OK) return "";
  std::string out(text);
  curl_free(text);
  return out;
}

Result<Url> FromCurl(CURLU* parsed, std::string_view text) {
  const auto fail = [&](std::string_view why) {
    return InvalidArgument("URL \"" + std::string(text.substr(0, 200)) + "\": " + std::string(why));
  };
  Url out;
  out.scheme = Part(parsed, CURLUPART_SCHEME);
  if (out.scheme != "http" && out.scheme != "https") return fail("only http and https are allowed");
  if (!Part(parsed, CURLUPART_USER).empty() || !Part(parsed, CURLUPART_PASSWORD).empty()) {
    return fail("a user name in a URL is not allowed");
  }
  out.host = ToLower(Part(parsed, CURLUPART_HOST));
  if (out.host.empty()) return fail("no host");
  const auto port = ParseNumber<std::uint16_t>(Part(parsed, CURLUPART_PORT, CURLU_DEFAULT_PORT));
  if (!port || *port == 0) return fail("no valid port");
  out.port = *port;
  out.path = Part(parsed, CURLUPART_PATH);
  if (out.path == "/") out.path.clear();
  out.query = Part(parsed, CURLUPART_QUERY);
  return out;
}

}  // namespace

Result<Url> Url::Parse(std::string_view text) {
  if (text.size() > kMaxUrl) return InvalidArgument("URL is longer than 16 KiB");
  const CurlUrl url(curl_url());
  const CURLUcode rc = curl_url_set(url.get(), CURLUPART_URL, std::string(text).c_str(), 0);
  if (rc != CURLUE_OK) {
    return InvalidArgument("URL \"" + std::string(text.substr(0, 200)) +
                           "\": " + curl_url_strerror(rc));
  }
  return FromCurl(url.get(), text);
}

Result<Url> Url::Resolve(std::string_view location) const {
  if (location.empty()) return InvalidArgument("redirect without a target");
  if (location.size() > kMaxUrl) return InvalidArgument("redirect to a URL longer than 16 KiB");
  const CurlUrl url(curl_url());
  CURLUcode rc = curl_url_set(url.get(), CURLUPART_URL, str().c_str(), 0);
  if (rc == CURLUE_OK)
    rc = curl_url_set(url.get(), CURLUPART_URL, std::string(location).c_str(), CURLU_URLENCODE);
  if (rc != CURLUE_OK) {
    return InvalidArgument("redirect to \"" + std::string(location.substr(0, 200)) +
                           "\": " + curl_url_strerror(rc));
  }
  return FromCurl(url.get(), location);
}

std::string Url::authority() const {
  const std::uint16_t usual = scheme == "https" ? 443 : 80;
  return port == usual ? host : host + ":" + std::to_string(port);
}

std::string Url::str() const {
  return scheme + "://" + authority() + path + (query.empty() ? "" : "?" + query);
}

bool Url::IsLoopback() const { return IsLoopbackHost(host); }

bool IsLoopbackHost(std::string_view host) {
  if (host == "localhost") return true;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const auto ip = IpAddress::Parse(host);
  return ip && ip->IsLoopback();
}

std::string UrlEncode(std::string_view text) {
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (kPlain.find(c) != std::string_view::npos) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  return out;
}

}  // namespace linnet::oci
