#include "pod_files.h"

#include <unistd.h>

#include <array>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::pods {
namespace {

constexpr mode_t kReadable = 0644;

std::string NodeHostname() {
  std::array<char, 65> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

// A missing file of the host is an empty one: a minimal node may have none.
std::string HostFile(const char* path) {
  auto text = ReadFile(path);
  return text ? *std::move(text) : std::string();
}

}  // namespace

std::string ResolvConf(const DnsConfig& dns) {
  std::string out;
  if (!dns.searches.empty()) out += "search " + Join(dns.searches, " ") + "\n";
  for (const auto& server : dns.servers) out += "nameserver " + server + "\n";
  if (!dns.options.empty()) out += "options " + Join(dns.options, " ") + "\n";
  return out;
}

std::string HostsFile(const std::string& hostname, const std::vector<std::string>& ips) {
  std::string out =
      "127.0.0.1\tlocalhost\n"
      "::1\tlocalhost ip6-localhost ip6-loopback\n"
      "fe00::0\tip6-localnet\n"
      "ff00::0\tip6-mcastprefix\n"
      "ff02::1\tip6-allnodes\n"
      "ff02::2\tip6-allrouters\n";
  for (const auto& ip : ips) out += ip + "\t" + hostname + "\n";
  return out;
}

std::string PodHostname(const PodConfig& config) {
  if (config.namespaces.network == NsMode::kNode) return NodeHostname();
  if (!config.hostname.empty()) return config.hostname;
  return config.metadata.name.substr(0, 63);
}

Result<void> WritePodFiles(const std::string& pod_dir, const PodConfig& config,
                           const std::vector<std::string>& ips) {
  const std::string hostname = PodHostname(config);
  const bool node = config.namespaces.network == NsMode::kNode;
  LN_TRY(ReplaceFile(JoinPath(pod_dir, "resolv.conf"),
                     config.dns ? ResolvConf(*config.dns) : HostFile("/etc/resolv.conf"),
                     kReadable));
  LN_TRY(ReplaceFile(JoinPath(pod_dir, "hosts"),
                     node ? HostFile("/etc/hosts") : HostsFile(hostname, ips), kReadable));
  return ReplaceFile(JoinPath(pod_dir, "hostname"), hostname + "\n", kReadable);
}

}  // namespace linnet::pods
