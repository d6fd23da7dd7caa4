// The kernel's answer to one netlink request.
#pragma once

#include <optional>
#include <string_view>

#include "linnet/base/result.h"

struct nlmsghdr;

namespace linnet::network {

// NLMSG_ERROR or NLMSG_DONE: the error in it, with the kernel's own explanation where it gave one;
// nullopt: success.
std::optional<Error> ErrorOfAnswer(const nlmsghdr* message, std::string_view what);

}  // namespace linnet::network
