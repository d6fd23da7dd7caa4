// Reading JSON that came from outside: knows its path, checks type and range, never coerces.
//
//   m.host_port = LN_TRY(v.Required<std::uint16_t>("hostPort"));
//     → "$.runtimeConfig.portMappings[2].hostPort: 70000 out of range (0…65535)"
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "linnet/base/result.h"

namespace linnet {

using Json = nlohmann::json;

struct JsonLimits {
  std::size_t max_bytes = 4U << 20;
  int max_depth = 64;
};

// Size and depth are checked before the tree is built. Errors: kInvalidArgument with position.
Result<Json> ParseJson(std::string_view text, const JsonLimits& limits = {});
// Never throws: invalid UTF-8 is replaced. `indent` < 0: compact.
std::string DumpJson(const Json& json, int indent = -1);

enum class KeyMatch : std::uint8_t {
  kExact,
  kIgnoreCase,  // as Go's encoding/json: an exact match is preferred, else without regard to
                // (ASCII) case
};

// A borrowed view of a value and its path. The document must outlive the view. Thread-compatible.
class JsonView {
 public:
  explicit JsonView(const Json& json, std::string path = "$", KeyMatch match = KeyMatch::kExact)
      : json_(&json), path_(std::move(path)), match_(match) {}

  const Json& raw() const { return *json_; }
  const std::string& path() const { return path_; }
  bool is_object() const { return json_->is_object(); }
  bool is_array() const { return json_->is_array(); }
  bool is_null() const { return json_->is_null(); }

  // The member, or nullopt where it is absent or null. Not an object: error.
  Result<std::optional<JsonView>> Find(std::string_view key) const;
  Result<JsonView> At(std::string_view key) const;  // absent: "$.x: required key \"y\" is missing"

  // T: bool, integers of exact width, double, std::string.
  template <class T>
  Result<T> As() const;
  template <class T>
  Result<T> Required(std::string_view key) const {
    auto v = At(key);
    if (!v) return std::move(v).error();
    return v->As<T>();
  }
  // Absent or null: `fallback`.
  template <class T>
  Result<T> Optional(std::string_view key, T fallback) const {
    auto v = Find(key);
    if (!v) return std::move(v).error();
    if (!*v) return fallback;
    return (*v)->As<T>();
  }
  template <class T>
  Result<std::optional<T>> Maybe(std::string_view key) const {
    auto v = Find(key);
    if (!v) return std::move(v).error();
    if (!*v) return std::optional<T>();
    auto r = (*v)->As<T>();
    if (!r) return std::move(r).error();
    return std::optional<T>(*std::move(r));
  }
  // Elements of the array under `key`; absent or null: empty.
  Result<std::vector<JsonView>> Array(std::string_view key) const;
  Result<std::vector<JsonView>> Elements() const;
  Result<std::vector<std::string>> Strings(std::string_view key) const;
  Result<std::map<std::string, std::string>> StringMap(std::string_view key) const;
  // An error that starts with this value's path.
  Error Fail(std::string_view what) const;

 private:
  template <class Int>
  Result<Int> AsInteger() const;
  const Json* json_;
  std::string path_;
  KeyMatch match_;
};

}  // namespace linnet
