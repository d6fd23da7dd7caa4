// CNI results: the 1.1.0 shape; every other version is converted from and to it at the edge.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/json_view.h"
#include "linnet/base/result.h"

namespace linnet::network::cni {

struct Interface {
  std::string name;
  std::string mac;
  std::uint32_t mtu = 0;
  std::string sandbox;  // path of the namespace; empty: on the host
  std::string socket_path, pci_id;
};
struct IpConfig {
  std::optional<int> interface;  // index into interfaces
  Cidr address;                  // with host bits
  std::optional<IpAddress> gateway;
};
struct Route {
  Cidr dst;
  std::optional<IpAddress> gw;
  std::uint32_t mtu = 0, adv_mss = 0, priority = 0;  // 0: not set
  std::optional<std::uint32_t> table, scope;
};
struct Dns {
  std::vector<std::string> nameservers, search, options;
  std::string domain;
  bool empty() const {
    return nameservers.empty() && search.empty() && options.empty() && domain.empty();
  }
};
struct AddResult {
  std::vector<Interface> interfaces;
  std::vector<IpConfig> ips;
  std::vector<Route> routes;
  Dns dns;
};

// Error codes of the specification.
enum class ErrorCode : int {
  kIncompatibleVersion = 1,
  kUnsupportedField = 2,
  kUnknownContainer = 3,
  kInvalidEnvironment = 4,
  kIo = 5,
  kDecode = 6,
  kInvalidConfig = 7,
  kInvalidNetns = 8,
  kTryAgainLater = 11,
  kNotAvailable = 50,
  kLimitedConnectivity = 51,
  kInternal = 999,
};
// An Error of Origin::kCni with this value.
Error CniError(ErrorCode code, std::string message);

// `json` in any known version → 1.1.0 shape. A result without cniVersion is read as
// `default_version`.
Result<AddResult> ParseResult(std::string_view json, std::string_view default_version);
Result<AddResult> ParseResult(const JsonView& json, std::string_view default_version);
// As `version` demands ("0.1.0" … "1.1.0"; "" is 0.1.0).
Result<std::string> DumpResult(const AddResult& result, std::string_view version);
Result<Json> ResultToJson(const AddResult& result, std::string_view version);

}  // namespace linnet::network::cni
