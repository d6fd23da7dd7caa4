#include "linnet/base/ids.h"

#include <sys/random.h>

#include <algorithm>

#include "linnet/base/text.h"

namespace linnet {
namespace {

bool IsAlnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

}  // namespace

std::string RandomHex(std::size_t bytes) {
  std::string raw(bytes, '\0');
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t n = getrandom(raw.data() + done, bytes - done, 0);
    if (n > 0) done += static_cast<std::size_t>(n);  // it fails only by EINTR
  }
  return Hex(raw);
}

template <class Tag>
Result<Id<Tag>> Id<Tag>::Parse(std::string_view text) {
  const auto allowed = [](char c) { return IsAlnum(c) || c == '_' || c == '.' || c == '-'; };
  if (text.empty() || text.size() > 128 || !IsAlnum(text.front()) ||
      !std::all_of(text.begin(), text.end(), allowed)) {
    return InvalidArgument(
        "\"" + std::string(text.substr(0, 128)) +
        "\" is not an id (1–128 of [A-Za-z0-9_.-], the first one a letter or a digit)");
  }
  return Id(std::string(text));
}

template <class Tag>
Id<Tag> Id<Tag>::Generate() {
  return Id(RandomHex(32));
}

template class Id<struct PodTag>;
template class Id<struct ContainerTag>;

}  // namespace linnet
