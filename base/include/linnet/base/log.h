// Structured logging: log::Info("pod ready", {{"pod", id}, {"ms", ms}}).
//
// The message is a constant; data goes into fields. Fixed keys: req pod ctr ns name err. base,
// ipam, oci and network never log above debug: they return. No secrets, no environment, no whole
// requests above debug. Thread-safe.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "linnet/base/result.h"

namespace linnet::log {

enum class Level : std::uint8_t { kDebug, kInfo, kWarn, kError };
enum class Format : std::uint8_t { kLogfmt, kJson };

struct Field {
  std::string_view key;
  std::string value;
  Field(std::string_view k, std::string v) : key(k), value(std::move(v)) {}
  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(v) {}
  Field(std::string_view k, bool v) : key(k), value(v ? "true" : "false") {}
  template <class T>
  requires(std::integral<T> || std::floating_point<T>) Field(std::string_view k, T v)
      : key(k), value(std::to_string(v)) {}
  Field(std::string_view k, const Error& e) : key(k), value(e.message()) {}
  template <class T>
  requires requires(const T& t) { std::string(t.str()); }
  Field(std::string_view k, const T& v) : key(k), value(v.str()) {}
};
using Fields = std::initializer_list<Field>;

struct Options {
  Level level = Level::kInfo;
  Format format = Format::kLogfmt;
  // Empty: standard error.
  std::string file;
};

// Call once from main; before it, everything of level info and above goes to standard error.
Result<void> Init(const Options& options);
Result<Level> ParseLevel(std::string_view name);
bool Enabled(Level level);
void Write(Level level, std::string_view message, Fields fields);
inline void Debug(std::string_view m, Fields f = {}) {
  if (Enabled(Level::kDebug)) Write(Level::kDebug, m, f);
}
inline void Info(std::string_view m, Fields f = {}) { Write(Level::kInfo, m, f); }
inline void Warn(std::string_view m, Fields f = {}) { Write(Level::kWarn, m, f); }
inline void Err(std::string_view m, Fields f = {}) { Write(Level::kError, m, f); }

}  // namespace linnet::log
