// Errors and fallible results.
//
// Every function that can fail returns Result<T>. An Error carries a code (what a caller may branch
// on), the origin it came from (an errno, a CNI error code, an exit status: never lost, never
// parsed back out of the text) and a message that names object and action once per layer: "pod
// 3f2a: attach eth0: open /run/netns/x: No such file or directory".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "linnet/base/check.h"

namespace linnet {

// Named and meant as in gRPC.
enum class Code : std::uint8_t {
  kInvalidArgument,
  kNotFound,
  kAlreadyExists,
  kFailedPrecondition,
  kPermissionDenied,
  kResourceExhausted,
  kDeadlineExceeded,
  kCancelled,
  kUnavailable,
  kUnimplemented,
  kDataLoss,
  kInternal,
};

// "InvalidArgument", "NotFound", …
std::string_view CodeName(Code code);

// The one mapping from errno to Code.
Code CodeFromErrno(int err);

enum class Origin : std::uint8_t { kNone, kErrno, kCni, kExitStatus, kHttp };

class [[nodiscard]] Error {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}
  Error(Code code, Origin origin, int value, std::string message)
      : code_(code), origin_(origin), value_(value), message_(std::move(message)) {}

  // `what` names the action and object ("open /x"); the text of errno is appended.
  static Error FromErrno(int err, std::string_view what);

  Code code() const { return code_; }
  Origin origin() const { return origin_; }
  int value() const { return value_; }
  const std::string& message() const { return message_; }
  bool Is(Code code) const { return code_ == code; }
  bool IsErrno(int err) const { return origin_ == Origin::kErrno && value_ == err; }

  // Prepends "context: ".
  Error With(std::string_view context) &&;
  Error With(std::string_view context) const&;
  // The same error under another code (the origin stays).
  Error As(Code code) && {
    code_ = code;
    return std::move(*this);
  }

 private:
  Code code_;
  Origin origin_ = Origin::kNone;
  int value_ = 0;
  std::string message_;
};

inline Error InvalidArgument(std::string m) { return {Code::kInvalidArgument, std::move(m)}; }
inline Error NotFound(std::string m) { return {Code::kNotFound, std::move(m)}; }
inline Error AlreadyExists(std::string m) { return {Code::kAlreadyExists, std::move(m)}; }
inline Error FailedPrecondition(std::string m) { return {Code::kFailedPrecondition, std::move(m)}; }
inline Error Unavailable(std::string m) { return {Code::kUnavailable, std::move(m)}; }
inline Error Internal(std::string m) { return {Code::kInternal, std::move(m)}; }

// Shaped like std::expected<T, Error>, which clang 14 cannot compile.
template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value)
      : v_(std::in_place_index<0>, std::move(value)) {
  }  // NOLINT(google-explicit-constructor): by design
  Result(Error error)
      : v_(std::in_place_index<1>, std::move(error)) {
  }  // NOLINT(google-explicit-constructor): by design
  template <class U>
  requires(std::is_constructible_v<T, U&&> && !std::is_same_v<std::remove_cvref_t<U>, T> &&
           !std::is_same_v<std::remove_cvref_t<U>, Error> &&
           !std::is_same_v<std::remove_cvref_t<U>, Result> && std::is_convertible_v<U&&, T>)
      Result(U&& value)
      : v_(std::in_place_index<0>, std::forward<U>(value)) {
  }  // NOLINT(google-explicit-constructor): by design

  bool has_value() const { return v_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(value()); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& value() & {
    LN_CHECK(has_value());
    return *std::get_if<0>(&v_);
  }
  const T& value() const& {
    LN_CHECK(has_value());
    return *std::get_if<0>(&v_);
  }
  T&& value() && { return std::move(value()); }
  T value_or(T other) && { return has_value() ? std::move(value()) : std::move(other); }
  Error& error() & {
    LN_CHECK(!has_value());
    return *std::get_if<1>(&v_);
  }
  const Error& error() const& {
    LN_CHECK(!has_value());
    return *std::get_if<1>(&v_);
  }
  Error&& error() && { return std::move(error()); }

 private:
  std::variant<T, Error> v_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error)
      : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor): by design
  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  void operator*() const {}
  Error& error() & {
    LN_CHECK(error_.has_value());
    return *error_;
  }
  const Error& error() const& {
    LN_CHECK(error_.has_value());
    return *error_;
  }
  Error&& error() && { return std::move(error()); }

 private:
  std::optional<Error> error_;
};

inline Result<void> Ok() { return {}; }

}  // namespace linnet

// UniqueFd fd = LN_TRY(Open(path));  returns the error to the caller of the function it stands in.
#define LN_TRY(expr)                       \
  __extension__({                          \
    auto ln_result = (expr);               \
    if (!ln_result) [[unlikely]]           \
      return std::move(ln_result).error(); \
    *std::move(ln_result);                 \
  })

// The same, with "context: " before the message. `context` is evaluated only on failure.
#define LN_TRY_CTX(expr, context)                        \
  __extension__({                                        \
    auto ln_result = (expr);                             \
    if (!ln_result) [[unlikely]]                         \
      return std::move(ln_result).error().With(context); \
    *std::move(ln_result);                               \
  })
