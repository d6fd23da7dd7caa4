#include <algorithm>
#include <string>

#include <toml++/toml.h>

#include "linnet/base/clock.h"
#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "registry/hosts.h"

namespace linnet::oci {
namespace {

constexpr std::size_t kMaxHosts = 64;

Error At(const toml::node& node, std::string_view what) {
  return InvalidArgument("line " + std::to_string(node.source().begin.line) + ": " +
                         std::string(what));
}

// A string or a list of strings; absent: empty.
Result<std::vector<std::string>> StringsOf(const toml::table& table, std::string_view key) {
  std::vector<std::string> out;
  const toml::node* node = table.get(key);
  if (node == nullptr) return out;
  if (const auto* one = node->as_string()) return std::vector<std::string>{one->get()};
  const auto* list = node->as_array();
  if (list == nullptr)
    return At(*node, std::string(key) + " must be a string or a list of strings");
  for (const toml::node& item : *list) {
    const auto* text = item.as_string();
    if (text == nullptr) return At(item, std::string(key) + " must be a list of strings");
    out.push_back(text->get());
  }
  return out;
}

Result<bool> BoolOf(const toml::table& table, std::string_view key) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return false;
  const auto* value = node->as_boolean();
  if (value == nullptr) return At(*node, std::string(key) + " must be true or false");
  return value->get();
}

class Reader {
 public:
  Reader(const std::string& directory, std::string_view domain)
      : directory_(directory), domain_(domain) {}

  Result<std::vector<Endpoint>> Read(const toml::table& root) {
    std::vector<Endpoint> out;
    for (const auto& [name, table] : LN_TRY(HostTables(root)))
      out.push_back(LN_TRY(ReadHost(name, *table)));
    out.push_back(LN_TRY(ReadServer(root)));
    return out;
  }

 private:
  using NamedTable = std::pair<std::string, const toml::table*>;

  // [host."…"] as written: toml++ sorts its tables by key, so the order comes from the places in
  // the text.
  static Result<std::vector<NamedTable>> HostTables(const toml::table& root) {
    struct Entry {
      toml::source_position at;
      NamedTable table;
    };
    std::vector<Entry> entries;
    const toml::node* hosts = root.get("host");
    if (hosts == nullptr) return std::vector<NamedTable>();
    if (!hosts->is_table()) return At(*hosts, "host must be a table: [host.\"https://…\"]");
    for (const auto& [key, node] : *hosts->as_table()) {
      if (!node.is_table()) return At(node, "host." + std::string(key.str()) + " must be a table");
      entries.push_back({key.source().begin, {std::string(key.str()), node.as_table()}});
    }
    if (entries.size() > kMaxHosts)
      return At(*hosts, "more than " + std::to_string(kMaxHosts) + " hosts");
    std::ranges::stable_sort(entries, [](const Entry& a, const Entry& b) { return a.at < b.at; });
    std::vector<NamedTable> out;
    for (Entry& entry : entries) out.push_back(std::move(entry.table));
    return out;
  }

  Result<Endpoint> ReadHost(const std::string& name, const toml::table& table) {
    Endpoint out;
    if (auto base = BaseUrl(name, table)) {
      out.base = *std::move(base);
    } else {
      return At(table, base.error().message());
    }
    LN_TRY(ReadOptions(table, &out));
    return out;
  }

  // The top level of the file describes the registry itself.
  Result<Endpoint> ReadServer(const toml::table& root) {
    Endpoint out = LN_TRY(DefaultEndpoint(domain_));
    if (const toml::node* node = root.get("server")) {
      const auto* text = node->as_string();
      if (text == nullptr) return At(*node, "server must be a string");
      if (!text->get().empty()) {
        auto base = BaseUrl(text->get(), root);
        if (!base) return At(*node, base.error().message());
        out.base = *std::move(base);
      }
    }
    LN_TRY(ReadOptions(root, &out));
    return out;
  }

  // Without a scheme: https, plain http for this machine. The API's "/v2" is added unless
  // override_path says not to.
  static Result<Url> BaseUrl(const std::string& text, const toml::table& options) {
    const bool has_scheme = text.find("://") != std::string::npos;
    Url url = LN_TRY(Url::Parse(has_scheme ? text : "https://" + text));
    if (!has_scheme && url.IsLoopback()) url = LN_TRY(Url::Parse("http://" + text));
    while (url.path.ends_with('/')) url.path.pop_back();
    url.query.clear();
    const bool override_path = LN_TRY(BoolOf(options, "override_path"));
    if (!override_path && !url.path.ends_with("/v2")) url.path += "/v2";
    return url;
  }

  Result<void> ReadOptions(const toml::table& table, Endpoint* out) {
    if (table.contains("capabilities")) {
      const auto names = LN_TRY(StringsOf(table, "capabilities"));
      out->pull = std::ranges::find(names, "pull") != names.end();
      out->resolve = std::ranges::find(names, "resolve") != names.end();
    }
    out->tls.skip_verify = LN_TRY(BoolOf(table, "skip_verify"));
    for (const std::string& path : LN_TRY(StringsOf(table, "ca"))) {
      out->tls.ca_pem += LN_TRY(ReadFile(InDirectory(path), 1U << 20)) + "\n";
    }
    LN_TRY(ReadClient(table, out));
    LN_TRY(ReadHeaders(table, out));
    const auto timeout = LN_TRY(StringsOf(table, "dial_timeout"));
    if (!timeout.empty()) {
      const auto parsed = ParseDuration(timeout.front());
      if (!parsed || *parsed <= std::chrono::nanoseconds(0))
        return At(*table.get("dial_timeout"), "dial_timeout is not a duration such as \"5s\"");
      out->connect_timeout =
          std::max(std::chrono::duration_cast<std::chrono::milliseconds>(*parsed),
                   std::chrono::milliseconds(1));
    }
    return Ok();
  }

  // "file" | ["file", …] | [["cert", "key"], …]: libcurl shows one certificate, the first.
  Result<void> ReadClient(const toml::table& table, Endpoint* out) {
    const toml::node* node = table.get("client");
    if (node == nullptr) return Ok();
    const toml::node* first = node;
    if (const auto* list = node->as_array()) {
      if (list->empty()) return Ok();
      first = list->get(0);
    }
    if (const auto* one = first->as_string()) {
      out->tls.client_cert = InDirectory(one->get());
      return Ok();
    }
    const auto* pair = first->as_array();
    const bool good = pair != nullptr && !pair->empty() && pair->size() <= 2 &&
                      std::ranges::all_of(*pair, [](const toml::node& n) { return n.is_string(); });
    if (!good)
      return At(*node, "client must be a file, a list of files or a list of [certificate, key]");
    out->tls.client_cert = InDirectory(pair->get(0)->as_string()->get());
    if (pair->size() == 2) out->tls.client_key = InDirectory(pair->get(1)->as_string()->get());
    return Ok();
  }

  static Result<void> ReadHeaders(const toml::table& table, Endpoint* out) {
    const toml::node* node = table.get("header");
    if (node == nullptr) return Ok();
    if (!node->is_table()) return At(*node, "header must be a table");
    for (const auto& [key, value] : *node->as_table()) {
      const std::string name(key.str());
      for (const std::string& text : LN_TRY(StringsOf(*node->as_table(), key.str()))) {
        const std::string line = name + ": " + text;
        if (line.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos ||
            name.find_first_of(" :") != std::string::npos) {
          return At(value, "header \"" + name + "\" is not valid");
        }
        out->headers.push_back(line);
      }
    }
    return Ok();
  }

  std::string InDirectory(const std::string& path) const {
    return path.starts_with('/') ? path : JoinPath(directory_, path);
  }

  const std::string& directory_;
  std::string_view domain_;
};

}  // namespace

Result<std::vector<Endpoint>> ParseHostsToml(std::string_view text, const std::string& directory,
                                             std::string_view domain) {
  try {
    const toml::table root = toml::parse(text);
    return Reader(directory, domain).Read(root);
  } catch (const toml::parse_error& e) {
    return InvalidArgument("line " + std::to_string(e.source().begin.line) + ": " +
                           std::string(e.description()));
  }
}

}  // namespace linnet::oci
