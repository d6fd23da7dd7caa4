// Ids as types, never bare strings.
#pragma once

#include <compare>
#include <functional>
#include <string>
#include <string_view>

#include "linnet/base/result.h"

namespace linnet {

// 64 lower-case hexadecimal digits in what we generate; any of [A-Za-z0-9_.-], 1–128 long, first
// alphanumeric, in what we accept (OCI and CNI ids): safe as a file name, in a cgroup path and in
// an nftables comment.
template <class Tag>
class Id {
 public:
  static Result<Id> Parse(std::string_view text);
  // 256 bits from getrandom.
  static Id Generate();
  const std::string& str() const { return text_; }
  // The first 13 characters, as tools show ids.
  std::string_view shortened() const { return std::string_view(text_).substr(0, 13); }
  auto operator<=>(const Id&) const = default;

 private:
  explicit Id(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

using PodId = Id<struct PodTag>;
using ContainerId = Id<struct ContainerTag>;

extern template class Id<struct PodTag>;
extern template class Id<struct ContainerTag>;

// `bytes` random bytes as lower-case hexadecimal.
std::string RandomHex(std::size_t bytes);

}  // namespace linnet

template <class Tag>
struct std::hash<linnet::Id<Tag>> {
  std::size_t operator()(const linnet::Id<Tag>& id) const noexcept {
    return std::hash<std::string>{}(id.str());
  }
};
