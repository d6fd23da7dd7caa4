// Content digests: "sha256:" + 64 hexadecimal digits (or sha512: + 128), checked before any use in
// a path.
#pragma once

#include <compare>
#include <memory>
#include <string>
#include <string_view>

#include "linnet/base/result.h"

namespace linnet::oci {

class Digest {
 public:
  static Result<Digest> Parse(std::string_view text);
  static Digest Sha256Of(std::string_view bytes);
  const std::string& str() const { return text_; }  // "sha256:ab…"
  std::string_view algorithm() const;               // "sha256"
  std::string_view hex() const;                     // "ab…"
  auto operator<=>(const Digest&) const = default;

 private:
  friend class Hasher;
  explicit Digest(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

// Streaming digest of what is fed. Thread-compatible.
class Hasher {
 public:
  explicit Hasher(std::string_view algorithm = "sha256");
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();
  void Update(std::string_view bytes);
  Digest Finish();  // once

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::oci
