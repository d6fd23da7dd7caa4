// A host with pods, in the test's own namespaces: the plugins called as the engine calls them, an
// IPAM plugin of the test's own, servers that answer with who asked.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "linnet/base/json_view.h"

#include "netlink/host_network.h"
#include "netns.h"
#include "plugins/plugin.h"

namespace linnet::network {

std::string Sh(const std::string& command);  // standard output; a failing command fails the test
std::string ShAny(const std::string& command);

// A server in a namespace (or on the host): the answer is the address of whoever asks, and its
// port.
class Server {
 public:
  enum class Kind : std::uint8_t { kTcp, kUdp };
  Server(Kind kind, FdRef netns, const std::string& address, std::uint16_t port,
         std::string tag = {});
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

 private:
  void Loop();
  Kind kind_;
  UniqueFd socket_;
  std::string tag_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// What the server said: the asker's address as the server sees it (with the tag, if any, before
// it); nullopt: no answer.
std::optional<std::string> Ask(Server::Kind kind, FdRef netns, const std::string& address,
                               std::uint16_t port,
                               std::chrono::milliseconds limit = std::chrono::milliseconds(700),
                               const std::string& source = {});
inline std::optional<std::string> AskTcp(FdRef netns, const std::string& address,
                                         std::uint16_t port) {
  return Ask(Server::Kind::kTcp, netns, address, port);
}
inline std::optional<std::string> AskUdp(FdRef netns, const std::string& address,
                                         std::uint16_t port) {
  return Ask(Server::Kind::kUdp, netns, address, port);
}
bool Ping(FdRef netns, const std::string& address);
// Tries again: the kernel joins the group in which neighbours ask for a new IPv6 address a moment
// after the address is set.
bool PingSoon(FdRef netns, const std::string& address);
inline constexpr FdRef kHost{-1};

struct FakeIpam final : Delegates {
  Result<cni::AddResult> Add(const std::string& type, const PluginRequest& request) override;
  Result<void> Check(const std::string&, const PluginRequest&) override { return Ok(); }
  Result<void> Del(const std::string& type, const PluginRequest& request) override;
  Result<void> Gc(const std::string&, const PluginRequest&) override { return Ok(); }
  Result<void> Status(const std::string&, const PluginRequest&) override { return Ok(); }
  std::map<std::string, int> leases;  // container → number
  int next = 2;
  bool fail = false;
  bool v4 = true, v6 = true;
  std::string v4_base = "10.83.0.", v6_base = "fd00:83::";
  int v4_prefix = 16, v6_prefix = 64;
};

struct Pod {
  std::string id;
  UniqueFd netns;
  cni::AddResult result;
  std::string v4, v6;  // without prefix
  FdRef ns() const { return netns; }
};

class NetTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  void StartHost(NftMode mode = NftMode::kDaemon, const std::string& instance = {});

  // bridge conf as text; `ports` as JSON array of mappings.
  static std::string RoutedConf();
  static std::string Layer2Conf(const std::string& more = {});
  Result<Pod> TryAdd(const std::string& id, const std::string& conf, const std::string& ports = {});
  Pod Add(const std::string& id, const std::string& conf, const std::string& ports = {});
  Result<void> TryDel(const std::string& id, FdRef netns);
  void Del(Pod& pod);
  Result<void> Check(const Pod& pod);
  Result<void> Restore(const Pod& pod);

  // 198.51.100.2 and 2001:db8:100::2, a station outside with a route to the host only.
  void MakeOutside();

  PluginContext Context() {
    return {.host = *host_, .ipam_dir = {}, .instance = {}, .delegates = &ipam_};
  }
  struct Attached {
    Json bridge, portmap;
    std::optional<cni::AddResult> result;
  };
  PluginRequest RequestFor(const std::string& id, FdRef netns, const Json& conf);

  std::unique_ptr<HostNetwork> host_;
  std::unique_ptr<Plugin> bridge_ = MakeBridgePlugin(), portmap_ = MakePortmapPlugin(),
                          loopback_ = MakeLoopbackPlugin();
  FakeIpam ipam_;
  std::map<std::string, Attached> attached_;
  UniqueFd outside_;
  std::string state_dir_;
};

}  // namespace linnet::network
