#include "http.h"

#include <algorithm>

#include "linnet/base/text.h"

namespace linnet::cri::streaming {
namespace {

constexpr std::size_t kMaxHeaders = 100;

const char* Reason(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    default:
      return "Internal Server Error";
  }
}

// The next line, without its end; `text` goes on behind it.
std::string_view TakeLine(std::string_view& text) {
  const std::size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

bool IsToken(std::string_view text) {
  const auto fits = [](char c) {
    return c > 32 && c < 127 &&
           std::string_view("()<>@,;:\\\"/[]?={}").find(c) == std::string_view::npos;
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), fits);
}

}  // namespace

std::string RequestHead::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return "";
}

std::vector<std::string> RequestHead::List(std::string_view name) const {
  std::vector<std::string> out;
  for (const auto& [key, value] : headers) {
    if (key != name) continue;
    for (const std::string& element : Split(value, ',')) {
      if (const std::string_view trimmed = Trim(element); !trimmed.empty())
        out.emplace_back(trimmed);
    }
  }
  return out;
}

bool RequestHead::Has(std::string_view name, std::string_view element) const {
  const std::string wanted = ToLower(element);
  const std::vector<std::string> list = List(name);
  return std::any_of(list.begin(), list.end(),
                     [&](const std::string& e) { return ToLower(e) == wanted; });
}

Result<RequestHead> ParseRequestHead(std::string_view text) {
  RequestHead out;
  const std::vector<std::string> first = Split(TakeLine(text), ' ');
  if (first.size() != 3 || !IsToken(first[0]) || !first[1].starts_with('/') ||
      !first[2].starts_with("HTTP/1.")) {
    return InvalidArgument("not an HTTP/1.1 request");
  }
  out.method = first[0];
  out.path = first[1].substr(0, first[1].find('?'));
  while (!text.empty()) {
    const std::string_view line = TakeLine(text);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !IsToken(line.substr(0, colon)))
      return InvalidArgument("malformed header");
    if (out.headers.size() == kMaxHeaders) return InvalidArgument("too many headers");
    out.headers.emplace_back(ToLower(line.substr(0, colon)),
                             std::string(Trim(line.substr(colon + 1))));
  }
  return out;
}

std::string ErrorResponse(int status, std::string_view text,
                          const std::vector<std::string>& headers) {
  std::string out = "HTTP/1.1 " + std::to_string(status) + " " + Reason(status) + "\r\n";
  for (const std::string& header : headers) out.append(header).append("\r\n");
  out += "Content-Type: text/plain; charset=utf-8\r\nContent-Length: " +
         std::to_string(text.size() + 1) + "\r\nConnection: close\r\n\r\n";
  return out.append(text).append("\n");
}

}  // namespace linnet::cri::streaming
