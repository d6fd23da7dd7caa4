#include "json_document.h"

#include "linnet/base/text.h"

namespace linnet::oci {
namespace {

Result<void> RejectNul(const Json& json, const std::string& path) {
  const auto has_nul = [](const std::string& s) { return s.find('\0') != std::string::npos; };
  if (json.is_string()) {
    if (has_nul(json.get_ref<const std::string&>()))
      return InvalidArgument(path + ": a NUL byte is not allowed");
  } else if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      if (has_nul(key)) return InvalidArgument(path + ": a NUL byte in a key is not allowed");
      if (value.is_primitive() && !value.is_string()) continue;
      LN_TRY(RejectNul(value, path + "." + key));
    }
  } else if (json.is_array()) {
    for (std::size_t i = 0; i < json.size(); ++i) {
      if (json[i].is_primitive() && !json[i].is_string()) continue;
      LN_TRY(RejectNul(json[i], path + "[" + std::to_string(i) + "]"));
    }
  }
  return Ok();
}

}  // namespace

Result<Json> ParseDocument(std::string_view text, std::size_t max_bytes) {
  Json json = LN_TRY(ParseJson(text, {.max_bytes = max_bytes, .max_depth = 32}));
  if (!json.is_object()) return InvalidArgument("$: an object is expected");
  // Without an escape there is no NUL: the parser refuses control characters.
  if (text.find("\\u0000") != std::string_view::npos) LN_TRY(RejectNul(json, "$"));
  return json;
}

Result<void> RejectCaseVariants(const JsonView& object,
                                std::initializer_list<std::string_view> names) {
  for (const auto& [key, value] : object.raw().items()) {
    for (const std::string_view name : names) {
      if (key != name && ToLower(key) == ToLower(name)) {
        return object.Fail("key \"" + key + "\" differs from \"" + std::string(name) +
                           "\" by case only");
      }
    }
  }
  return Ok();
}

}  // namespace linnet::oci
