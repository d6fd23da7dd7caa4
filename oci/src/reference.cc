#include "linnet/oci/reference.h"

#include <algorithm>

#include "linnet/base/ip.h"
#include "linnet/base/text.h"

// The grammar is that of distribution/reference, the rules for short names those of Docker
// (normalize.go). No regular expressions: every rule here is a loop over bytes.
namespace linnet::oci {
namespace {

constexpr std::size_t kMaxText = 1024;
constexpr std::size_t kMaxPath = 255;
constexpr std::size_t kMaxTag = 128;
constexpr std::string_view kDefaultDomain = "docker.io";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsAlnum(char c) { return IsDigit(c) || IsLower(c) || IsUpper(c); }
bool IsLowerAlnum(char c) { return IsDigit(c) || IsLower(c); }

// A piece of the input for a message: short and printable.
std::string Quoted(std::string_view text) {
  constexpr std::size_t kShown = 120;
  std::string out = "\"";
  for (const char c : text.substr(0, kShown)) out += c >= ' ' && c <= '~' ? c : '?';
  out += text.size() > kShown ? "…\"" : "\"";
  return out;
}

Result<void> CheckHost(std::string_view host) {
  if (host.starts_with('[')) {
    if (!host.ends_with(']'))
      return InvalidArgument("registry host " + Quoted(host) + " has no closing bracket");
    const auto ip = IpAddress::Parse(host.substr(1, host.size() - 2));
    if (!ip || host.find(':') == std::string_view::npos) {
      return InvalidArgument("registry host " + Quoted(host) +
                             " is not an IPv6 address in brackets");
    }
    return Ok();
  }
  for (const std::string& label : Split(host, '.')) {
    const bool good = !label.empty() && IsAlnum(label.front()) && IsAlnum(label.back()) &&
                      std::ranges::all_of(label, [](char c) { return IsAlnum(c) || c == '-'; });
    if (!good) return InvalidArgument("registry host " + Quoted(host) + " is not a host name");
  }
  return Ok();
}

Result<void> CheckDomain(std::string_view domain) {
  std::string_view host = domain;
  const std::size_t colon = domain.rfind(':');
  if (colon != std::string_view::npos && !domain.ends_with(']')) {
    host = domain.substr(0, colon);
    const auto port = ParseNumber<std::uint16_t>(domain.substr(colon + 1));
    if (!port || *port == 0)
      return InvalidArgument("registry " + Quoted(domain) + " has no valid port after the colon");
  }
  return CheckHost(host);
}

// alphanumerics, joined by one of "." "_" "__" or any number of "-".
bool IsPathComponent(std::string_view part) {
  std::size_t i = 0;
  for (;;) {
    const std::size_t begin = i;
    while (i < part.size() && IsLowerAlnum(part[i])) ++i;
    if (i == begin) return false;
    if (i == part.size()) return true;
    if (part[i] == '.') {
      ++i;
    } else if (part[i] == '_') {
      i += part.substr(i, 2) == "__" ? 2 : 1;
    } else if (part[i] == '-') {
      while (i < part.size() && part[i] == '-') ++i;
    } else {
      return false;
    }
  }
}

Result<void> CheckPath(std::string_view path) {
  if (path.empty()) return InvalidArgument("repository name is empty");
  if (path.size() > kMaxPath) return InvalidArgument("repository name is longer than 255 bytes");
  if (std::ranges::any_of(path, IsUpper)) {
    return InvalidArgument("repository name " + Quoted(path) + " must be lower case");
  }
  for (const std::string& part : Split(path, '/')) {
    if (!IsPathComponent(part)) {
      return InvalidArgument("repository name " + Quoted(path) + ": component " + Quoted(part) +
                             " is not valid");
    }
  }
  return Ok();
}

Result<void> CheckTag(std::string_view tag) {
  if (tag.empty()) return InvalidArgument("tag is empty");
  if (tag.size() > kMaxTag)
    return InvalidArgument("tag " + Quoted(tag) + " is longer than 128 bytes");
  const bool good = (IsAlnum(tag[0]) || tag[0] == '_') && std::ranges::all_of(tag, [](char c) {
                      return IsAlnum(c) || c == '_' || c == '.' || c == '-';
                    });
  if (!good) return InvalidArgument("tag " + Quoted(tag) + " is not valid");
  return Ok();
}

// The first component is a registry when it cannot be anything else.
bool LooksLikeDomain(std::string_view first) {
  return first == "localhost" || first.find_first_of(".:") != std::string_view::npos ||
         std::ranges::any_of(first, IsUpper);
}

bool IsImageId(std::string_view name) {
  return name.size() == 64 &&
         std::ranges::all_of(name, [](char c) { return IsDigit(c) || (c >= 'a' && c <= 'f'); });
}

Result<Reference> ParseParts(std::string_view text) {
  if (text.empty()) return InvalidArgument("it is empty");
  if (text.size() > kMaxText) return InvalidArgument("it is longer than 1024 bytes");
  if (IsImageId(text)) return InvalidArgument("64 hexadecimal digits are an image id, not a name");
  Reference ref;
  std::string_view name = text;
  if (const std::size_t at = name.find('@'); at != std::string_view::npos) {
    ref.digest = LN_TRY(Digest::Parse(name.substr(at + 1)));
    name = name.substr(0, at);
  }
  const std::size_t colon = name.rfind(':');
  const std::size_t last_slash = name.rfind('/');
  if (colon != std::string_view::npos &&
      (last_slash == std::string_view::npos || colon > last_slash)) {
    ref.tag = name.substr(colon + 1);
    LN_TRY(CheckTag(ref.tag));
    name = name.substr(0, colon);
  } else if (!ref.digest) {
    ref.tag = "latest";
  }
  const std::size_t slash = name.find('/');
  if (slash != std::string_view::npos && LooksLikeDomain(name.substr(0, slash))) {
    ref.domain = name.substr(0, slash);
    ref.path = name.substr(slash + 1);
    if (ref.domain == "index.docker.io") ref.domain = kDefaultDomain;
    LN_TRY(CheckDomain(ref.domain));
  } else {
    ref.domain = kDefaultDomain;
    ref.path = name;
  }
  LN_TRY(CheckPath(ref.path));
  if (ref.domain == kDefaultDomain && ref.path.find('/') == std::string::npos)
    ref.path.insert(0, "library/");
  return ref;
}

}  // namespace

Result<Reference> Reference::Parse(std::string_view text) {
  auto ref = ParseParts(text);
  if (!ref) return std::move(ref).error().With("image reference " + Quoted(text));
  return ref;
}

std::string Reference::str() const {
  if (digest) return repository() + "@" + digest->str();
  return tag.empty() ? repository() : repository() + ":" + tag;
}

}  // namespace linnet::oci
