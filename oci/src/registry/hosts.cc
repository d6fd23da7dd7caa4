#include "registry/hosts.h"

#include <algorithm>
#include <array>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::oci {
namespace {

// "host:5000" may also be spelled "host_5000_", for file systems without colons; that one is looked
// for first.
std::vector<std::string> DirectoryNames(std::string_view domain) {
  std::vector<std::string> out;
  const std::size_t colon = domain.rfind(':');
  if (colon != std::string_view::npos && !domain.ends_with(']')) {
    out.push_back(std::string(domain.substr(0, colon)) + "_" +
                  std::string(domain.substr(colon + 1)) + "_");
  }
  out.emplace_back(domain);
  out.emplace_back("_default");
  return out;
}

// Docker's way, without hosts.toml: *.crt are authorities, x.cert with x.key is for us.
Result<void> TakeDockerCertificates(const std::string& directory, TlsOptions* tls) {
  for (const std::string& name : LN_TRY(ListDir(directory))) {
    const std::string path = JoinPath(directory, name);
    if (name.ends_with(".crt")) {
      tls->ca_pem += LN_TRY(ReadFile(path, 1U << 20)) + "\n";
    } else if (name.ends_with(".cert") && tls->client_cert.empty()) {
      tls->client_cert = path;
      tls->client_key = path.substr(0, path.size() - 4) + "key";
    }
  }
  return Ok();
}

Result<std::vector<Endpoint>> FromDirectory(const std::string& directory, std::string_view domain) {
  const std::string file = JoinPath(directory, "hosts.toml");
  auto text = ReadFile(file, 1U << 20);
  if (text) {
    auto parsed = ParseHostsToml(*text, directory, domain);
    if (!parsed) return std::move(parsed).error().With(file);
    return parsed;
  }
  if (!text.error().Is(Code::kNotFound)) return std::move(text).error();
  std::vector<Endpoint> out = {LN_TRY(DefaultEndpoint(domain))};
  LN_TRY(TakeDockerCertificates(directory, &out.front().tls));
  return out;
}

}  // namespace

Result<Endpoint> DefaultEndpoint(std::string_view domain) {
  const std::string host = domain == "docker.io" ? "registry-1.docker.io" : std::string(domain);
  Endpoint out;
  out.base = LN_TRY(Url::Parse("https://" + host + "/v2"));
  if (out.base.IsLoopback()) out.base = LN_TRY(Url::Parse("http://" + host + "/v2"));
  out.upstream = true;
  return out;
}

Result<std::vector<Endpoint>> EndpointsOf(std::string_view domain, std::string_view config_path) {
  if (!config_path.empty()) {
    for (const std::string& root : Split(config_path, ':')) {
      if (root.empty()) continue;
      for (const std::string& name : DirectoryNames(domain)) {
        const std::string directory = JoinPath(root, name);
        if (Exists(directory)) return FromDirectory(directory, domain);
      }
    }
  }
  return std::vector<Endpoint>{LN_TRY(DefaultEndpoint(domain))};
}

}  // namespace linnet::oci
