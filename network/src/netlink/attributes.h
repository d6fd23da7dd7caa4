// Attributes of a netlink message by type, of rtnetlink and of nftables.
#pragma once

#include <array>
#include <cstddef>

#include <libmnl/libmnl.h>

namespace linnet::network {

// Borrowed from the message; nullptr where one is absent.
struct Attributes {
  std::array<const nlattr*, 80> at{};
  const nlattr* operator[](std::size_t type) const { return type < at.size() ? at[type] : nullptr; }
};

namespace attributes_internal {
inline int Collect(const nlattr* attribute, void* data) {
  auto& out = *static_cast<Attributes*>(data);
  const std::size_t type = mnl_attr_get_type(attribute);
  if (type < out.at.size()) out.at[type] = attribute;
  return MNL_CB_OK;
}
}  // namespace attributes_internal

// `header_size`: of what stands between the netlink header and the attributes.
inline Attributes AttributesOf(const nlmsghdr* message, std::size_t header_size) {
  Attributes out;
  mnl_attr_parse(message, static_cast<unsigned>(header_size), attributes_internal::Collect, &out);
  return out;
}
inline Attributes Nested(const nlattr* attribute) {
  Attributes out;
  if (attribute != nullptr) mnl_attr_parse_nested(attribute, attributes_internal::Collect, &out);
  return out;
}

}  // namespace linnet::network
