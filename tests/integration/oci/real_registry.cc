#include "real_registry.h"

#include <crypt.h>
#include <fcntl.h>

#include <chrono>
#include <thread>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

const std::vector<std::string> kPath = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                        "/usr/bin",        "/sbin",          "/bin"};

std::string Which(const std::string& name) {
  for (const std::string& dir : kPath) {
    if (Exists(JoinPath(dir, name))) return JoinPath(dir, name);
  }
  return "";
}

std::vector<std::string> Environment() {
  return {"PATH=" + Join(kPath, ":"), "HOME=/nonexistent", "TMPDIR=/tmp"};
}

}  // namespace

Result<std::string> RunTool(const std::vector<std::string>& argv) {
  const SpawnSpec spec{.path = Which(argv[0]), .argv = argv, .env = Environment()};
  const RunResult result = LN_TRY_CTX(Run(spec, "", steady_clock::now() + seconds(60)), argv[0]);
  if (result.status.code != 0) return Internal(Join(argv, " ") + ": " + result.err + result.out);
  return result.out;
}

std::vector<std::string> MissingTools() {
  std::vector<std::string> out;
  for (const char* name : {"docker-registry", "skopeo", "umoci", "openssl", "tar"}) {
    if (Which(name).empty()) out.emplace_back(name);
  }
  return out;
}

RealRegistry::RealRegistry(const Options& options) : options_(options) {}

Result<void> RealRegistry::MakeCertificate(const std::string& name) {
  if (!Exists(ca_path())) {
    LN_TRY(RunTool({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                    "/CN=linnet test authority", "-keyout", dir_ / "ca.key", "-out", ca_path()}));
  }
  LN_TRY(RunTool({"openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                  "-nodes", "-subj", "/CN=" + name, "-keyout", dir_ / (name + ".key"), "-out",
                  dir_ / (name + ".csr")}));
  dir_.Write(name + ".ext", "subjectAltName=IP:127.0.0.1\n");
  LN_TRY(RunTool({"openssl", "x509", "-req", "-days", "2", "-in", dir_ / (name + ".csr"), "-CA",
                  ca_path(), "-CAkey", dir_ / "ca.key", "-CAcreateserial", "-extfile",
                  dir_ / (name + ".ext"), "-out", dir_ / (name + ".crt")}));
  return Ok();
}

Result<void> RealRegistry::Start() {
  std::string config =
      "version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: " + (dir_ / "data") +
      "}}\nhttp:\n  addr: 127.0.0.1:0\n";
  if (options_.tls) {
    LN_TRY(MakeCertificate("registry"));
    config += "  tls: {certificate: " + (dir_ / "registry.crt") +
              ", key: " + (dir_ / "registry.key") + "}\n";
  }
  if (options_.basic) {
    crypt_data data{};
    dir_.Write("htpasswd", std::string("user:") +
                               crypt_r("secret", "$2y$05$abcdefghijklmnopqrstuu", &data) + "\n");
    config += "auth: {htpasswd: {realm: test, path: " + (dir_ / "htpasswd") + "}}\n";
  }
  dir_.Write("registry.yml", config);
  const UniqueFd log = LN_TRY(Open(dir_ / "registry.log", O_WRONLY | O_CREAT, 0600));
  process_ = LN_TRY(Spawn({.path = Which("docker-registry"),
                           .argv = {"docker-registry", "serve", dir_ / "registry.yml"},
                           .env = Environment(),
                           .fds = {{log, 1}, {log, 2}}}));
  constexpr std::string_view kListening = "listening on 127.0.0.1:";
  for (const auto end = steady_clock::now() + seconds(20); steady_clock::now() < end;
       std::this_thread::sleep_for(milliseconds(20))) {
    const std::string text = dir_.Read("registry.log");
    const std::size_t at = text.find(kListening);
    if (at == std::string::npos) continue;
    port_ = text.substr(at + kListening.size());
    port_ = port_.substr(0, port_.find_first_not_of("0123456789"));
    return Ok();
  }
  return Internal("docker-registry does not start: " + dir_.Read("registry.log"));
}

Result<void> RealRegistry::Push(const std::string& name,
                                const std::vector<std::string>& more_flags) {
  const std::string layout = dir_ / "layout";
  if (!Exists(layout)) {
    dir_.Write("rootfs/etc/motd", "hello from a layer\n");
    LN_TRY(RunTool({"umoci", "init", "--layout", layout}));
    LN_TRY(RunTool({"umoci", "new", "--image", layout + ":x"}));
    LN_TRY(RunTool({"tar", "-C", dir_ / "rootfs", "-cf", dir_ / "layer.tar", "."}));
    LN_TRY(RunTool({"umoci", "raw", "add-layer", "--image", layout + ":x", dir_ / "layer.tar"}));
    LN_TRY(RunTool({"umoci", "config", "--image", layout + ":x", "--config.env", "A=b",
                    "--config.cmd", "run"}));
  }
  std::vector<std::string> argv = {"skopeo", "--insecure-policy", "copy", "-q",
                                   "--dest-tls-verify=false"};
  if (options_.basic) argv.insert(argv.end(), {"--dest-creds", "user:secret"});
  argv.insert(argv.end(), more_flags.begin(), more_flags.end());
  argv.insert(argv.end(), {"oci:" + layout + ":x", "docker://" + authority() + "/" + name});
  LN_TRY(RunTool(argv));
  return Ok();
}

}  // namespace linnet::testing
