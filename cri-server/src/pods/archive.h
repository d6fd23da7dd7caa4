// One description of a struct serves both writing it as JSON and reading it back:
//
//   template <class A> void Fields(A& a, PodMetadata& m) { a("name", m.name); a("attempt",
//   m.attempt); }
//
// For our own records only: a missing member keeps its default, a member of the wrong type makes
// the reader fail.
#pragma once

#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "linnet/base/json_view.h"
#include "linnet/base/result.h"

namespace linnet::pods {

class JsonWriter {
 public:
  template <class T>
  void operator()(const char* key, T& value) {
    json_[key] = Encode(value);
  }
  Json Take() { return std::move(json_); }

  static Json Encode(const std::string& v) { return v; }
  template <class T>
  requires std::is_arithmetic_v<T>
  static Json Encode(T v) { return v; }
  template <class T>
  requires std::is_enum_v<T>
  static Json Encode(T v) { return static_cast<int>(v); }
  template <class T>
  static Json Encode(std::vector<T>& v) {
    Json out = Json::array();
    for (auto& item : v) out.push_back(Encode(item));
    return out;
  }
  template <class T>
  static Json Encode(std::optional<T>& v) {
    return v ? Encode(*v) : Json();
  }
  static Json Encode(std::map<std::string, std::string>& v) { return v; }
  template <class T>
  requires(std::is_class_v<T> && !std::same_as<T, std::string>) static Json Encode(T& v) {
    JsonWriter writer;
    Fields(writer, v);
    return writer.Take();
  }

 private:
  Json json_ = Json::object();
};

class JsonReader {
 public:
  explicit JsonReader(JsonView view) : view_(std::move(view)) {}

  template <class T>
  void operator()(const char* key, T& value) {
    if (error_) return;
    auto member = view_.Find(key);
    if (!member) {
      error_ = std::move(member).error();
      return;
    }
    if (!*member) return;
    auto read = Decode(**member, value);
    if (!read) error_ = std::move(read).error();
  }
  Result<void> Finish() {
    if (error_) return *std::move(error_);
    return Ok();
  }

  template <class T>
  requires(std::is_arithmetic_v<T> ||
           std::same_as<T, std::string>) static Result<void> Decode(const JsonView& view, T& out) {
    out = LN_TRY(view.As<T>());
    return Ok();
  }
  template <class T>
  requires std::is_enum_v<T>
  static Result<void> Decode(const JsonView& view, T& out) {
    out = static_cast<T>(LN_TRY(view.As<std::uint8_t>()));
    return Ok();
  }
  template <class T>
  static Result<void> Decode(const JsonView& view, std::vector<T>& out) {
    out.clear();
    for (const JsonView& item : LN_TRY(view.Elements())) {
      T value{};
      LN_TRY(Decode(item, value));
      out.push_back(std::move(value));
    }
    return Ok();
  }
  template <class T>
  static Result<void> Decode(const JsonView& view, std::optional<T>& out) {
    T value{};
    LN_TRY(Decode(view, value));
    out = std::move(value);
    return Ok();
  }
  static Result<void> Decode(const JsonView& view, std::map<std::string, std::string>& out) {
    out.clear();
    if (!view.is_object()) return view.Fail("an object is expected");
    for (const auto& [key, value] : view.raw().items()) {
      if (!value.is_string()) return view.Fail("strings are expected");
      out.emplace(key, value.template get_ref<const std::string&>());
    }
    return Ok();
  }
  template <class T>
  requires(std::is_class_v<T> &&
           !std::same_as<T, std::string>) static Result<void> Decode(const JsonView& view, T& out) {
    JsonReader reader(view);
    Fields(reader, out);
    return reader.Finish();
  }

 private:
  JsonView view_;
  std::optional<Error> error_;
};

}  // namespace linnet::pods
