#include "engine/config_source.h"

#include <sys/stat.h>

#include "linnet/base/file.h"

namespace linnet::network {
namespace {

bool IsCandidate(const std::string& directory, const std::string& name) {
  const std::string_view text = name;
  const std::size_t dot = text.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return false;
  const std::string_view ending = text.substr(dot);
  if (ending != ".conflist" && ending != ".conf" && ending != ".json") return false;
  struct stat st {};
  return stat(JoinPath(directory, name).c_str(), &st) == 0 && S_ISREG(st.st_mode);
}

}  // namespace

Selection SelectNetwork(const std::string& directory, const Selection& before) {
  Selection out{.rules = Rules::kBuiltin, .network = nullptr, .error = {}, .note = {}};
  auto names = ListDir(directory);
  if (!names) {
    if (!names.error().IsErrno(ENOENT)) {
      out = before;
      out.error = names.error().message();
      out.note.clear();
    }
    return out;
  }
  std::string first_error;
  for (const std::string& name : *names) {
    if (!IsCandidate(directory, name)) continue;
    const std::string path = JoinPath(directory, name);
    auto conf = cni::LoadConf(path);
    if (conf) {
      out.rules = Rules::kFile;
      out.network = std::make_shared<const cni::NetworkConf>(*std::move(conf));
      return out;
    }
    std::string why = conf.error().message();
    if (!why.starts_with(path)) why = path + ": " + why;
    if (before.network && before.network->source == path) {
      out.rules = Rules::kFile;
      out.network = before.network;
      out.error = std::move(why);
      return out;
    }
    if (first_error.empty()) first_error = why;
    out.note += (out.note.empty() ? "" : "; ") + why;
  }
  if (first_error.empty()) return out;
  out = before;
  out.error = std::move(first_error);
  out.note.clear();
  return out;
}

}  // namespace linnet::network
