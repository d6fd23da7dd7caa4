// The tuning plugin's configuration, and what it remembers of a link. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/json_view.h"
#include "linnet/base/result.h"

#include "netlink/link_messages.h"
#include "plugins/plugin.h"

namespace linnet::network {

struct TuningConf {
  std::string data_dir;                        // empty: the default
  std::map<std::string, std::string> sysctls;  // as written: dots or slashes
  std::string mac_text;                        // as written, for the result
  LinkAttributes link;                         // what is to be set
};

// args.cni wins over runtimeConfig.mac wins over MAC in CNI_ARGS wins over the configuration. Keys
// match without regard to case. Errors: kInvalidArgument; a sysctl that stands there twice.
Result<TuningConf> ParseTuningConf(const PluginRequest& request);
// What DEL needs of a configuration that may be wrong otherwise.
std::string DataDirOf(const PluginRequest& request);

// The file of a sysctl below /proc/sys/net/. The first "IFNAME" in it becomes `ifname`. Errors:
// kInvalidArgument "invalid net sysctl key" where it leads elsewhere.
Result<std::string> SysctlFile(std::string_view key, std::string_view ifname);

// `allowlist`: contents of allowlist.conf, a regular expression (RE2) a line, matched anywhere in
// the key as it is written. Errors: kPermissionDenied; kInvalidArgument an expression is wrong.
Result<void> CheckAllowed(const std::map<std::string, std::string>& sysctls,
                          std::string_view allowlist);

// What the link was before: upstream's file format, and whose network it was, for GC.
std::string DumpBackup(const LinkAttributes& before, const std::string& network);
struct Backup {
  LinkAttributes before;
  std::string network;  // empty: written by another implementation
};
Result<Backup> ParseBackup(std::string_view text);
// "<container>_<ifname>.json"
std::string BackupName(const std::string& container_id, const std::string& ifname);

}  // namespace linnet::network
