// Text that goes into a protobuf string, which has to be UTF-8: Go clients refuse the whole message
// otherwise.
#pragma once

#include <string>
#include <string_view>

namespace linnet::cri {

// The same text; each byte that is not part of valid UTF-8 becomes U+FFFD.
std::string Utf8(std::string_view text);
// At most `max_bytes`, cut between characters.
std::string_view Utf8Prefix(std::string_view text, std::size_t max_bytes);

}  // namespace linnet::cri
