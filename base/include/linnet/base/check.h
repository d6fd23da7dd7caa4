// Aborts with a message on a programmer's error. Never for input, the kernel's or a peer's
// behaviour.
#pragma once

namespace linnet {
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);
}  // namespace linnet

#define LN_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::linnet::CheckFailed(#condition, __FILE__, __LINE__))
