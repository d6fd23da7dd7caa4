// Heads of HTTP/1.1 requests that ask for an upgrade, and answers to them.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "linnet/base/result.h"

namespace linnet::cri::streaming {

inline constexpr std::size_t kMaxHeadBytes = 16384;

struct RequestHead {
  std::string method, path;                                  // the path without its query
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case

  // The first of that name, or "".
  std::string Header(std::string_view name) const;
  // Elements of all headers of that name: lists with commas, repeated headers, or both.
  std::vector<std::string> List(std::string_view name) const;
  // One of the elements, in any case.
  bool Has(std::string_view name, std::string_view element) const;
};

// `text` is everything before the empty line.
Result<RequestHead> ParseRequestHead(std::string_view text);

// "HTTP/1.1 404 Not Found …" with `text` as its body; the connection ends with it. `headers`: whole
// lines.
std::string ErrorResponse(int status, std::string_view text,
                          const std::vector<std::string>& headers = {});

}  // namespace linnet::cri::streaming
