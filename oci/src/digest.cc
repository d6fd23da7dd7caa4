#include "linnet/oci/digest.h"

#include <array>

#include <openssl/evp.h>

#include "linnet/base/check.h"
#include "linnet/base/text.h"

namespace linnet::oci {
namespace {

struct Algorithm {
  std::string_view name;
  std::size_t hex_digits;
  const EVP_MD* (*make)();
};
constexpr std::array<Algorithm, 2> kAlgorithms = {{
    {"sha256", 64, EVP_sha256},
    {"sha512", 128, EVP_sha512},
}};

const Algorithm* FindAlgorithm(std::string_view name) {
  for (const Algorithm& a : kAlgorithms) {
    if (a.name == name) return &a;
  }
  return nullptr;
}

bool IsLowerHex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

// What came from outside, cut and made printable.
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text.substr(0, 160)) out += c > ' ' && c <= '~' ? c : '?';
  return out + "\"";
}

}  // namespace

Result<Digest> Digest::Parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    return InvalidArgument("digest " + Quoted(text) + " has no algorithm (sha256:…)");
  }
  const Algorithm* algorithm = FindAlgorithm(text.substr(0, colon));
  if (algorithm == nullptr) {
    return InvalidArgument("digest " + Quoted(text) + ": only sha256 and sha512 are known");
  }
  const std::string_view digits = text.substr(colon + 1);
  if (digits.size() != algorithm->hex_digits) {
    return InvalidArgument("digest " + Quoted(text) + " has " + std::to_string(digits.size()) +
                           " digits instead of " + std::to_string(algorithm->hex_digits));
  }
  for (const char c : digits) {
    if (!IsLowerHex(c))
      return InvalidArgument("digest " + Quoted(text) + " is not lower-case hexadecimal");
  }
  return Digest(std::string(text));
}

Digest Digest::Sha256Of(std::string_view bytes) {
  Hasher hasher;
  hasher.Update(bytes);
  return hasher.Finish();
}

std::string_view Digest::algorithm() const {
  return std::string_view(text_).substr(0, text_.find(':'));
}
std::string_view Digest::hex() const { return std::string_view(text_).substr(text_.find(':') + 1); }

struct Hasher::Impl {
  const Algorithm* algorithm = nullptr;
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() { EVP_MD_CTX_free(context); }
};

Hasher::Hasher(std::string_view algorithm) : impl_(std::make_unique<Impl>()) {
  impl_->algorithm = FindAlgorithm(algorithm);
  LN_CHECK(impl_->algorithm != nullptr);
  LN_CHECK(EVP_DigestInit_ex(impl_->context, impl_->algorithm->make(), nullptr) == 1);
}
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::Update(std::string_view bytes) {
  LN_CHECK(EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()) == 1);
}

Digest Hasher::Finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned int size = 0;
  LN_CHECK(EVP_DigestFinal_ex(impl_->context, out.data(), &size) == 1);
  const std::string_view bytes(reinterpret_cast<const char*>(out.data()), size);
  return Digest(std::string(impl_->algorithm->name) + ":" + Hex(bytes));
}

}  // namespace linnet::oci
