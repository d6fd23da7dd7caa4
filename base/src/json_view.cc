#include "linnet/base/json_view.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "linnet/base/text.h"

namespace linnet {
namespace {

// Deepest nesting of brackets outside strings: what a tree built from this text would have.
int Depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

std::string_view TypeName(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

}  // namespace

Result<Json> ParseJson(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return InvalidArgument("JSON text of " + std::to_string(text.size()) +
                           " bytes is larger than " + std::to_string(limits.max_bytes));
  }
  if (Depth(text) > limits.max_depth) {
    return InvalidArgument("JSON text is nested deeper than " + std::to_string(limits.max_depth));
  }
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    return InvalidArgument(std::string("not JSON: ") + e.what());
  }
}

std::string DumpJson(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

Error JsonView::Fail(std::string_view what) const {
  return InvalidArgument(path_ + ": " + std::string(what));
}

Result<std::optional<JsonView>> JsonView::Find(std::string_view key) const {
  if (json_->is_null()) return std::optional<JsonView>();
  if (!json_->is_object())
    return Fail("an object is expected, not " + std::string(TypeName(*json_)));
  auto it = json_->find(key);
  if (it == json_->end() && match_ == KeyMatch::kIgnoreCase) {
    const std::string lower = ToLower(key);
    for (auto i = json_->begin(); i != json_->end(); ++i) {
      if (ToLower(i.key()) == lower) it = i;
    }
  }
  if (it == json_->end() || it->is_null()) return std::optional<JsonView>();
  return std::optional<JsonView>(JsonView(*it, path_ + "." + std::string(key), match_));
}

Result<JsonView> JsonView::At(std::string_view key) const {
  std::optional<JsonView> found = LN_TRY(Find(key));
  if (!found) return Fail("required key \"" + std::string(key) + "\" is missing");
  return *std::move(found);
}

template <class Int>
Result<Int> JsonView::AsInteger() const {
  using Limits = std::numeric_limits<Int>;
  const auto out_of_range = [&] {
    return Fail(json_->dump() + " out of range (" + std::to_string(Limits::min()) + "…" +
                std::to_string(Limits::max()) + ")");
  };
  if (json_->is_number_unsigned()) {
    const auto v = json_->get<std::uint64_t>();
    if (v > static_cast<std::uint64_t>(Limits::max())) return out_of_range();
    return static_cast<Int>(v);
  }
  if (json_->is_number_integer()) {
    const auto v = json_->get<std::int64_t>();
    if constexpr (std::is_unsigned_v<Int>) {
      return out_of_range();  // a negative one
    } else {
      if (v < Limits::min() || v > Limits::max()) return out_of_range();
      return static_cast<Int>(v);
    }
  }
  if (json_->is_number_float()) return Fail(json_->dump() + " is not an integer");
  return Fail("an integer is expected, not " + std::string(TypeName(*json_)));
}

template <class T>
Result<T> JsonView::As() const {
  if constexpr (std::is_same_v<T, bool>) {
    if (!json_->is_boolean())
      return Fail("a boolean is expected, not " + std::string(TypeName(*json_)));
    return json_->get<bool>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!json_->is_string())
      return Fail("a string is expected, not " + std::string(TypeName(*json_)));
    return json_->get_ref<const std::string&>();
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!json_->is_number())
      return Fail("a number is expected, not " + std::string(TypeName(*json_)));
    return json_->get<T>();
  } else {
    return AsInteger<T>();
  }
}

template Result<bool> JsonView::As<bool>() const;
template Result<std::string> JsonView::As<std::string>() const;
template Result<double> JsonView::As<double>() const;
template Result<std::int8_t> JsonView::As<std::int8_t>() const;
template Result<std::int16_t> JsonView::As<std::int16_t>() const;
template Result<std::int32_t> JsonView::As<std::int32_t>() const;
template Result<std::int64_t> JsonView::As<std::int64_t>() const;
template Result<std::uint8_t> JsonView::As<std::uint8_t>() const;
template Result<std::uint16_t> JsonView::As<std::uint16_t>() const;
template Result<std::uint32_t> JsonView::As<std::uint32_t>() const;
template Result<std::uint64_t> JsonView::As<std::uint64_t>() const;

Result<std::vector<JsonView>> JsonView::Elements() const {
  std::vector<JsonView> out;
  if (json_->is_null()) return out;
  if (!json_->is_array()) return Fail("an array is expected, not " + std::string(TypeName(*json_)));
  out.reserve(json_->size());
  for (std::size_t i = 0; i < json_->size(); ++i)
    out.emplace_back((*json_)[i], path_ + "[" + std::to_string(i) + "]", match_);
  return out;
}

Result<std::vector<JsonView>> JsonView::Array(std::string_view key) const {
  const std::optional<JsonView> found = LN_TRY(Find(key));
  if (!found) return std::vector<JsonView>();
  return found->Elements();
}

Result<std::vector<std::string>> JsonView::Strings(std::string_view key) const {
  std::vector<std::string> out;
  for (const JsonView& v : LN_TRY(Array(key))) out.push_back(LN_TRY(v.As<std::string>()));
  return out;
}

Result<std::map<std::string, std::string>> JsonView::StringMap(std::string_view key) const {
  std::map<std::string, std::string> out;
  const std::optional<JsonView> found = LN_TRY(Find(key));
  if (!found) return out;
  if (!found->is_object())
    return found->Fail("an object is expected, not " + std::string(TypeName(found->raw())));
  for (const auto& [name, value] : found->raw().items()) {
    const JsonView member(value, found->path() + "." + name, match_);
    out.emplace(name, LN_TRY(member.As<std::string>()));
  }
  return out;
}

}  // namespace linnet
