#include "pods.h"

#include <net/if.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "linnet/base/file.h"
#include "linnet/base/ip.h"

#include "netns.h"

namespace linnet::bench {

namespace {

Result<UniqueFd> MakePinned(const std::string& id, std::string& path) {
  UniqueFd fd = LN_TRY(network::NewNetns());
  path = "/run/netns/" + id;
  LN_TRY(network::Pin(path, fd));
  return fd;
}

}  // namespace

Result<UniqueFd> Driver::MakeNamespace(const std::string& id, std::string& path) {
  return MakePinned(id, path);
}

Result<PodNamespace> PodNamespace::Make(const std::string& id) {
  std::string path;
  UniqueFd fd = LN_TRY(MakePinned(id, path));
  return PodNamespace(id, path, std::move(fd));
}

Result<PodNamespace> PodNamespace::Make(Driver& driver, const std::string& id) {
  std::string path;
  UniqueFd fd = LN_TRY(driver.MakeNamespace(id, path));
  return PodNamespace(id, path, std::move(fd));
}

PodNamespace& PodNamespace::operator=(PodNamespace&& other) noexcept {
  if (this == &other) return *this;
  Release();
  id_ = std::move(other.id_);
  path_ = std::move(other.path_);
  fd_ = std::move(other.fd_);
  return *this;
}

void PodNamespace::Release() {
  if (!fd_) return;
  if (auto done = network::Unpin(path_); !done)
    std::fprintf(stderr, "%s\n", done.error().message().c_str());
  fd_.Reset();
}

std::string LeftOver(const std::string& work) {
  std::string out;
  std::error_code ec;
  for (const auto& link : std::filesystem::directory_iterator("/sys/class/net", ec)) {
    if (Exists(link.path() / "brport")) out += "link " + link.path().filename().string() + "\n";
  }
  for (const auto& file : std::filesystem::recursive_directory_iterator(work, ec)) {
    const std::string name = file.path().filename();
    if (IpAddress::Parse(name)) out += "address " + name + "\n";
    const std::string folder = file.path().parent_path().filename();
    if (file.is_regular_file() && (folder == "results" || folder == "attaching"))
      out += "record " + name + "\n";
  }
  FILE* pipe = ::popen(
      "nft list ruleset | grep -E '10\\.100\\.[0-9]+\\.[0-9]+ ?[.:,}]|dport [0-9]' || true", "r");
  std::array<char, 1024> line{};
  while (pipe != nullptr && std::fgets(line.data(), line.size(), pipe) != nullptr)
    out += std::string("nft ") + line.data();
  if (pipe != nullptr) ::pclose(pipe);
  return out;
}

std::string LeftOverSoon(const std::string& work) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  for (;;) {
    std::string left = LeftOver(work);
    if (left.empty() || std::chrono::steady_clock::now() > end) return left;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace linnet::bench
