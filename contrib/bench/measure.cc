#include "measure.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace linnet::bench {
namespace {

std::vector<int> Pids() {
  std::vector<int> out;
  std::error_code ec;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ec)) {
    const std::string name = entry.path().filename();
    if (!name.empty() && std::isdigit(static_cast<unsigned char>(name[0])) != 0)
      out.push_back(std::stoi(name));
  }
  return out;
}

std::string Slurp(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::uint64_t FieldKib(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with(key)) return std::strtoull(line.c_str() + key.size(), nullptr, 10);
  }
  return 0;
}

long CountDirs(const std::string& root) {
  std::error_code ec;
  long n = 0;
  std::filesystem::recursive_directory_iterator it(
      root, std::filesystem::directory_options::skip_permission_denied, ec);
  for (const std::filesystem::recursive_directory_iterator end; !ec && it != end;
       it.increment(ec)) {
    if (it->is_directory(ec)) ++n;
  }
  return n;
}

long CountNftElements() {
  // Only here is the nft program run: the census looks from outside.
  FILE* pipe =
      popen("nft list ruleset 2>/dev/null | grep -c . ", "r");  // NOLINT(cert-env33-c): a benchmark
  if (pipe == nullptr) return 0;
  long n = 0;
  if (std::fscanf(pipe, "%ld", &n) != 1) n = 0;
  pclose(pipe);
  return n;
}

}  // namespace

double Samples::Percentile(double p) const {
  if (values_.empty()) return 0;
  std::vector<double> sorted = values_;
  std::sort(sorted.begin(), sorted.end());
  const double rank = p / 100 * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(rank);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  const double part = rank - static_cast<double>(low);
  return sorted[low] * (1 - part) + sorted[high] * part;
}

double BusySeconds() {
  std::istringstream line(Slurp("/proc/stat"));
  std::string label;
  std::array<double, 7> v{};
  line >> label;
  for (double& x : v) line >> x;
  return (v[0] + v[1] + v[2] + v[5] + v[6]) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double ProcessSeconds(int pid) {
  const std::string stat = Slurp("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t end = stat.rfind(')');
  if (end == std::string::npos) return 0;
  std::istringstream fields(stat.substr(end + 2));
  std::string skip;
  for (int i = 0; i < 11; ++i) fields >> skip;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::uint64_t PssKib(int pid) {
  return FieldKib("/proc/" + std::to_string(pid) + "/smaps_rollup", "Pss:");
}

std::uint64_t PssKibOf(const std::vector<std::string>& names) {
  std::uint64_t sum = 0;
  for (const int pid : Pids()) {
    std::string comm = Slurp("/proc/" + std::to_string(pid) + "/comm");
    while (!comm.empty() && comm.back() == '\n') comm.pop_back();
    // The kernel keeps 15 characters.
    if (std::any_of(names.begin(), names.end(),
                    [&](const std::string& n) { return n.substr(0, 15) == comm; }))
      sum += PssKib(pid);
  }
  return sum;
}

std::uint64_t MemAvailableKib() { return FieldKib("/proc/meminfo", "MemAvailable:"); }

Census Census::Take() {
  Census c;
  std::error_code ec;
  c.counts["links"] = std::distance(std::filesystem::directory_iterator("/sys/class/net", ec), {});
  const std::string mounts = Slurp("/proc/self/mountinfo");
  c.counts["mounts"] = std::count(mounts.begin(), mounts.end(), '\n');
  std::set<std::pair<dev_t, ino_t>> netns;
  const std::vector<int> pids = Pids();
  long user_processes = 0;
  for (const int pid : pids) {
    struct stat st {};
    const std::string base = "/proc/" + std::to_string(pid);
    if (stat((base + "/ns/net").c_str(), &st) == 0) netns.insert({st.st_dev, st.st_ino});
    std::array<char, 8> exe{};
    // Kernel threads have no executable; they come and go.
    if (readlink((base + "/exe").c_str(), exe.data(), exe.size()) > 0) ++user_processes;
  }
  c.counts["processes"] = user_processes;
  c.counts["network namespaces"] = static_cast<long>(netns.size());
  c.counts["cgroups"] = CountDirs("/sys/fs/cgroup");
  c.counts["nftables lines"] = CountNftElements();
  return c;
}

std::string Census::Beyond(const Census& before) const {
  std::string out;
  for (const auto& [what, count] : counts) {
    const auto it = before.counts.find(what);
    const long old = it == before.counts.end() ? 0 : it->second;
    if (count <= old) continue;
    if (!out.empty()) out += ", ";
    out += what + " +" + std::to_string(count - old);
  }
  return out;
}

}  // namespace linnet::bench
