#include "config.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>

#include <openssl/evp.h>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "keys.h"
#include "toml_reader.h"

namespace linnet::cri {
namespace {

using Value = decltype(TomlEntry::value);

constexpr std::string_view kRuntimesPrefix = "runtimes.";

// ------------------------------------------------------------------------------------------------
// texts of values

std::string Quote(const std::string& text) {
  return DumpJson(Json(text));
}  // TOML's basic strings escape as JSON's do
std::string ToToml(const std::string& text) { return Quote(text); }
std::string ToToml(bool flag) { return flag ? "true" : "false"; }
std::string ToToml(int number) { return std::to_string(number); }
std::string ToToml(const std::vector<std::string>& list) {
  std::vector<std::string> quoted;
  for (const std::string& item : list) quoted.push_back(Quote(item));
  return "[" + Join(quoted, ", ") + "]";
}

// ------------------------------------------------------------------------------------------------
// reading values

Result<void> Assign(std::string& out, const Value& value) {
  const auto* text = std::get_if<std::string>(&value);
  if (text == nullptr) return InvalidArgument("text in quotes is expected");
  out = *text;
  return Ok();
}
Result<void> Assign(int& out, const Value& value) {
  const auto* number = std::get_if<std::int64_t>(&value);
  if (number == nullptr) return InvalidArgument("a whole number is expected");
  out = static_cast<int>(std::clamp<std::int64_t>(*number, INT32_MIN, INT32_MAX));
  return Ok();
}
Result<void> Assign(bool& out, const Value& value) {
  const auto* flag = std::get_if<bool>(&value);
  if (flag == nullptr) return InvalidArgument("true or false is expected");
  out = *flag;
  return Ok();
}
Result<void> Assign(std::vector<std::string>& out, const Value& value) {
  const auto* list = std::get_if<std::vector<std::string>>(&value);
  if (list == nullptr) return InvalidArgument("a list of texts is expected: [\"…\", \"…\"]");
  out = *list;
  return Ok();
}

// From the environment and the command line, where everything is text.
Result<void> AssignText(std::string& out, const std::string& text) {
  out = text;
  return Ok();
}
Result<void> AssignText(int& out, const std::string& text) {
  out = LN_TRY(ParseNumber<int>(text));
  return Ok();
}
Result<void> AssignText(bool& out, const std::string& text) {
  if (text != "true" && text != "false")
    return InvalidArgument("\"" + text + "\" is neither true nor false");
  out = text == "true";
  return Ok();
}
Result<void> AssignText(std::vector<std::string>& out, const std::string& text) {
  out.clear();
  for (const std::string& item : Split(text, ',')) {
    if (!Trim(item).empty()) out.emplace_back(Trim(item));
  }
  return Ok();
}

Result<void> Check(int value, const IntRange* range) {
  if (value < range->min || value > range->max) {
    return InvalidArgument(std::to_string(value) + " is not in the range " +
                           std::to_string(range->min) + " to " + std::to_string(range->max));
  }
  return Ok();
}
Result<void> Check(const std::string& value, const std::vector<std::string>* words) {
  if (std::find(words->begin(), words->end(), value) != words->end()) return Ok();
  return InvalidArgument("\"" + value + "\" is not one of " + Join(*words, ", "));
}
template <class T>
Result<void> Check(const T&, std::nullptr_t) {
  return Ok();
}

// ------------------------------------------------------------------------------------------------
// unknown keys

std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replace});
    }
  }
  return row.back();
}

// ` (did you mean "network.bridge"?)`, or nothing where no key is near.
std::string Suggestion(const Config& config, const std::string& key) {
  std::string best;
  std::size_t best_distance = key.size() / 3 + 2;
  VisitKeys(config, [&](const char* known, const auto&, auto) {
    std::size_t distance = EditDistance(key, known);
    // The right name in no or another table.
    const std::string_view name = key.substr(key.rfind('.') + 1);
    if (std::string_view(known).ends_with("." + std::string(name)))
      distance = std::min<std::size_t>(distance, 1);
    if (distance < best_distance) {
      best = known;
      best_distance = distance;
    }
  });
  return best.empty() ? "" : " (did you mean \"" + best + "\"?)";
}

// ------------------------------------------------------------------------------------------------
// the loader

std::string EnvName(std::string_view key) {
  std::string name = "LINNET_" + ToUpper(key);
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

class Loader {
 public:
  Result<void> File(const std::string& path) {
    for (const TomlEntry& entry : LN_TRY(ReadToml(path))) {
      LN_TRY_CTX(Entry(entry), entry.where);
    }
    return Ok();
  }

  Result<void> Environment(const std::map<std::string, std::string>& env) {
    Result<void> result;
    VisitKeys(config_, [&](const char* key, auto& value, auto check) {
      const auto it = env.find(EnvName(key));
      if (it == env.end() || !result) return;
      result = Set(value, check, it->second);
      if (!result) result = std::move(result).error().With(it->first);
      sources_[key] = it->first;
    });
    return result;
  }

  Result<void> Options(const std::map<std::string, std::string>& options) {
    Result<void> result;
    VisitKeys(config_, [&](const char* key, auto& value, auto check) {
      const auto it = options.find(key);
      if (it == options.end() || !result) return;
      std::string option = "--" + std::string(key);
      std::replace(option.begin(), option.end(), '.', '-');
      result = Set(value, check, it->second);
      if (!result) result = std::move(result).error().With(option);
      sources_[key] = option;
    });
    return result;
  }

  Result<LoadedConfig> Finish() {
    LN_TRY(MakeAbsolute());
    config_.instance = LN_TRY(InstanceOf(config_.root, config_.state));
    Derive(config_);
    Config defaults;
    defaults.root = config_.root;
    defaults.state = config_.state;
    defaults.instance = config_.instance;
    Derive(defaults);
    defaults.root = kDefaultRoot;
    defaults.state = kDefaultState;

    std::map<std::string, std::string> default_values;
    VisitKeys(defaults, [&](const char* key, const auto& value, auto) {
      default_values[key] = ToToml(value);
    });
    LoadedConfig out{.config = config_, .settings = {}};
    VisitKeys(config_, [&](const char* key, const auto& value, auto) {
      out.settings.push_back({key, ToToml(value), default_values[key], SourceOf(key)});
    });
    for (const auto& [name, runtime] : config_.runtimes) {
      const std::string key = std::string(kRuntimesPrefix) + name + ".path";
      out.settings.push_back({key, ToToml(runtime.path), "", SourceOf(key)});
    }
    return out;
  }

 private:
  template <class T, class C>
  Result<void> Set(T& value, C check, const std::string& text) {
    T next{};
    LN_TRY(AssignText(next, text));
    LN_TRY(Check(next, check));
    value = std::move(next);
    return Ok();
  }

  Result<void> Entry(const TomlEntry& entry) {
    if (entry.key.starts_with(kRuntimesPrefix)) return RuntimeEntry(entry);
    bool found = false;
    Result<void> result;
    VisitKeys(config_, [&](const char* key, auto& value, auto check) {
      if (entry.key != key) return;
      found = true;
      std::remove_reference_t<decltype(value)> next{};
      result = Assign(next, entry.value);
      if (result) result = Check(next, check);
      if (result) value = std::move(next);
    });
    if (!found)
      return InvalidArgument("unknown key \"" + entry.key + "\"" + Suggestion(config_, entry.key));
    if (!result) return std::move(result).error().With(entry.key);
    sources_[entry.key] = entry.where;
    return Ok();
  }

  Result<void> RuntimeEntry(const TomlEntry& entry) {
    const std::vector<std::string> parts = Split(entry.key, '.');
    if (parts.size() != 3 || parts[2] != "path" || parts[1].empty()) {
      return InvalidArgument("unknown key \"" + entry.key +
                             "\" (did you mean \"runtimes.NAME.path\"?)");
    }
    LN_TRY_CTX(Assign(config_.runtimes[parts[1]].path, entry.value), entry.key);
    sources_[entry.key] = entry.where;
    return Ok();
  }

  // What is kept on disk or told to others must not depend on where the daemon was started.
  Result<void> MakeAbsolute() {
    for (std::string* path : {&config_.root, &config_.state, &config_.socket}) {
      if (path->empty() && path == &config_.socket) continue;
      if (path->empty()) return InvalidArgument("root and state must not be empty");
      if (path->front() != '/') *path = JoinPath(LN_TRY(RealPath(".")), *path);
      *path = CleanPath(*path);
    }
    return Ok();
  }

  static void Derive(Config& c) {
    if (c.socket.empty()) c.socket = JoinPath(c.state, "linnet.sock");
    if (c.images.preload.empty()) c.images.preload = JoinPath(c.root, "preload");
    if (c.network.cache_dir.empty())
      c.network.cache_dir = c.root == kDefaultRoot ? "/var/lib/cni" : JoinPath(c.root, "cni");
    if (c.network.ipam_dir.empty()) c.network.ipam_dir = JoinPath(c.network.cache_dir, "networks");
    if (c.network.bridge.empty())
      c.network.bridge = c.instance.empty() ? "linnet0" : "ln" + c.instance + "0";
    for (auto [path, name] : {std::pair(&c.programs.keeper, "linnet-keeper"),
                              std::pair(&c.programs.cni, "linnet-cni")}) {
      auto self = ReadLink("/proc/self/exe");
      if (path->empty() && self) *path = JoinPath(Dirname(*self), name);
    }
  }

  std::string SourceOf(const std::string& key) const {
    const auto it = sources_.find(key);
    return it == sources_.end() ? "default" : it->second;
  }

  Config config_;
  std::map<std::string, std::string> sources_;
};

// The real path of what may not exist yet: that of its longest existing part, and the rest.
Result<std::string> RealPathOfFuture(const std::string& path) {
  std::string existing = path;
  std::string rest;
  while (existing != "/" && !Exists(existing)) {
    rest = rest.empty() ? Basename(existing) : JoinPath(Basename(existing), rest);
    existing = Dirname(existing);
  }
  const std::string real = LN_TRY(RealPath(existing));
  return rest.empty() ? real : JoinPath(real, rest);
}

}  // namespace

Result<LoadedConfig> LoadConfig(const ConfigSources& sources) {
  Loader loader;
  const std::string file = sources.file.empty() ? kDefaultConfigFile : sources.file;
  if (!sources.file.empty() || Exists(file)) LN_TRY(loader.File(file));
  const std::string drop_ins = JoinPath(Dirname(file), "conf.d");
  if (Exists(drop_ins)) {
    for (const std::string& name : LN_TRY(ListDir(drop_ins))) {
      if (name.ends_with(".toml") && name.front() != '.')
        LN_TRY(loader.File(JoinPath(drop_ins, name)));
    }
  }
  LN_TRY(loader.Environment(sources.env));
  LN_TRY(loader.Options(sources.options));
  return loader.Finish();
}

std::string PrintConfig(const LoadedConfig& loaded) {
  std::size_t width = 0;
  std::vector<std::string> lines;
  for (const Setting& s : loaded.settings) {
    lines.push_back(s.key + " = " + s.value);
    width = std::max(width, std::min<std::size_t>(lines.back().size(), 60));
  }
  std::string out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Setting& s = loaded.settings[i];
    out += lines[i] + std::string(lines[i].size() < width ? width - lines[i].size() : 0, ' ') +
           "  # " + s.source;
    if (s.source != "default" && !s.default_value.empty()) out += "; default " + s.default_value;
    out += "\n";
  }
  return out;
}

Json ConfigJson(const LoadedConfig& loaded) {
  Json out = Json::object();
  VisitKeys(loaded.config, [&](std::string_view key, const auto& value, auto) {
    Json* at = &out;
    for (const std::string& part : Split(key, '.')) at = &(*at)[part];
    *at = value;
  });
  for (const auto& [name, runtime] : loaded.config.runtimes)
    out["runtimes"][name]["path"] = runtime.path;
  return out;
}

std::map<std::string, std::string> LinnetEnvironment() {
  std::map<std::string, std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const char* equals = std::strchr(*entry, '=');
    if (equals != nullptr && std::strncmp(*entry, "LINNET_", 7) == 0)
      out.emplace(std::string(*entry, static_cast<std::size_t>(equals - *entry)), equals + 1);
  }
  return out;
}

Result<log::Options> LogOptions(const Config::Log& config) {
  return log::Options{.level = LN_TRY(log::ParseLevel(config.level)),
                      .format = config.format == "json" ? log::Format::kJson : log::Format::kLogfmt,
                      .file = config.file};
}

Result<std::string> InstanceOf(const std::string& root, const std::string& state) {
  if (root == kDefaultRoot && state == kDefaultState) return std::string();
  const std::string real = LN_TRY(RealPathOfFuture(state));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(real.data(), real.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1)
    return Internal("sha256");
  constexpr std::string_view kBase32 = "abcdefghijklmnopqrstuvwxyz234567";  // RFC 4648, lower case
  std::string out;
  for (unsigned bit = 0; bit < 20; bit += 5) {
    const unsigned pair = (unsigned{digest[bit / 8]} << 8U) | digest[bit / 8 + 1];
    out += kBase32[(pair >> (11 - bit % 8)) & 31U];
  }
  return out;
}

}  // namespace linnet::cri
