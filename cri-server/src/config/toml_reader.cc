#include "toml_reader.h"

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include "linnet/base/file.h"

namespace linnet::cri {
namespace {

constexpr std::size_t kMaxFileBytes = 1U << 20;

class Flattener {
 public:
  explicit Flattener(const std::string& path) : path_(path) {}

  Result<void> Table(const toml::table& table, const std::string& prefix) {
    for (const auto& [name, node] : table) {
      const std::string key =
          prefix.empty() ? std::string(name.str()) : prefix + "." + std::string(name.str());
      if (const toml::table* inner = node.as_table()) {
        LN_TRY(Table(*inner, key));
      } else {
        LN_TRY(Value(node, key, static_cast<unsigned>(name.source().begin.line)));
      }
    }
    return Ok();
  }
  std::vector<TomlEntry> Take() { return std::move(entries_); }

 private:
  Result<void> Value(const toml::node& node, const std::string& key, unsigned line) {
    TomlEntry entry{.key = key, .value = {}, .where = path_ + ":" + std::to_string(line)};
    if (const auto* text = node.as_string()) {
      entry.value = text->get();
    } else if (const auto* number = node.as_integer()) {
      entry.value = number->get();
    } else if (const auto* flag = node.as_boolean()) {
      entry.value = flag->get();
    } else if (const auto* list = node.as_array()) {
      std::vector<std::string> strings;
      for (const toml::node& item : *list) {
        const auto* element = item.as_string();
        if (element == nullptr)
          return InvalidArgument(entry.where + ": " + key + ": a list of texts is expected");
        strings.push_back(element->get());
      }
      entry.value = std::move(strings);
    } else {
      return InvalidArgument(entry.where + ": " + key +
                             ": text, a whole number or a list of texts is expected");
    }
    entries_.push_back(std::move(entry));
    return Ok();
  }

  const std::string& path_;
  std::vector<TomlEntry> entries_;
};

}  // namespace

Result<std::vector<TomlEntry>> ReadToml(const std::string& path) {
  const std::string text = LN_TRY(ReadFile(path, kMaxFileBytes));
  const toml::parse_result parsed = toml::parse(text, path);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return InvalidArgument(path + ":" + std::to_string(error.source().begin.line) + ": " +
                           std::string(error.description()));
  }
  Flattener flattener(path);
  LN_TRY(flattener.Table(parsed.table(), ""));
  return flattener.Take();
}

}  // namespace linnet::cri
