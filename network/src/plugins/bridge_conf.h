// The bridge plugin's configuration, valid by construction. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/json_view.h"
#include "linnet/base/result.h"

#include "cni/result.h"
#include "plugins/plugin.h"

namespace linnet::network {

struct BridgeConf {
  struct Vlans {
    std::uint16_t first, last;
  };
  std::string bridge = "cni0";
  bool is_gateway = false, is_default_gateway = false, force_address = false;
  bool ip_masq = false;
  std::uint32_t mtu = 0;
  bool hairpin = false, promiscuous = false, port_isolation = false;
  std::uint16_t vlan = 0;
  std::vector<Vlans> trunk;
  bool preserve_default_vlan = false;
  bool mac_spoof_check = false;
  bool enable_dad = false;
  bool disable_container_interface = false;
  std::optional<cni::Dns> dns;  // set: in place of the IPAM plugin's
  std::string ipam_type;        // empty: layer 2 only
  std::optional<MacAddress> mac;
  // linnet's own: the default network, and whether pods are held to their addresses (unset: in the
  // daemon, where they have some).
  bool routed = false;
  std::optional<bool> anti_spoof;
};

// runtimeConfig.mac wins over args.cni.mac wins over MAC in CNI_ARGS. Keys match without regard to
// case. Errors: kInvalidArgument with the path in the configuration.
Result<BridgeConf> ParseBridgeConf(const PluginRequest& request);
// What DEL and GC need of a configuration that may be wrong otherwise.
std::string IpamTypeOf(const PluginRequest& request);

}  // namespace linnet::network
