// Heads of HTTP requests that ask for an upgrade, and what is read out of them.
#include <string>
#include <string_view>

#include "linnet/base/check.h"

#include "streaming/http.h"
#include "streaming/remote.h"
#include "streaming/websocket.h"

using namespace linnet;                  // NOLINT(google-build-using-namespace): a program
using namespace linnet::cri::streaming;  // NOLINT(google-build-using-namespace): a program

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto head = ParseRequestHead(text.substr(0, kMaxHeadBytes));
  if (!head) return 0;
  LN_CHECK(head->path.starts_with('/') && head->path.find('?') == std::string::npos);
  LN_CHECK(head->headers.size() <= 100);
  std::size_t total = 0;
  for (const auto& [name, value] : head->headers) {
    LN_CHECK(!name.empty() && name.find_first_of(" \t\r\n:") == std::string::npos);
    LN_CHECK(value.find('\n') == std::string::npos);
    total += name.size() + value.size();
  }
  LN_CHECK(total <= size);
  for (const char* name : {"x-stream-protocol-version", "sec-websocket-protocol", "connection"}) {
    const auto list = head->List(name);
    for (const std::string& element : list) LN_CHECK(head->Has(name, element));
    (void)ChooseSpdyProtocol(list);
    (void)ChooseWebSocketProtocol(list);
    for (const std::string& element : list) LN_CHECK(VersionOf(element) >= 1);
  }
  LN_CHECK(WebSocketAccept(head->Header("sec-websocket-key")).size() == 28);
  // What is said back does not carry what came in.
  LN_CHECK(ErrorResponse(404, "no such stream").find("\r\n\r\n") != std::string::npos);
  return 0;
}
