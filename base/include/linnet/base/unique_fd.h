// Owned and borrowed file descriptors. No implicit conversion to or from int.
#pragma once

#include <utility>

namespace linnet {

// A borrowed descriptor: a parameter type. The lender keeps it open for the length of the call.
class FdRef {
 public:
  explicit constexpr FdRef(int fd) : fd_(fd) {}
  constexpr int get() const { return fd_; }
  constexpr bool valid() const { return fd_ >= 0; }
  // AT_FDCWD, for the …At functions.
  static FdRef Cwd();

 private:
  int fd_;
};

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  FdRef ref() const { return FdRef(fd_); }
  operator FdRef() const {
    return FdRef(fd_);
  }  // NOLINT(google-explicit-constructor): lending is safe
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  // Closes the descriptor held before; errno stays as it was; a failing close is never retried
  // (Linux frees it anyway).
  void Reset(int fd = -1);
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

}  // namespace linnet
