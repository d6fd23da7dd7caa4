// One description of the keys serves reading, printing and suggesting.
#pragma once

#include <string>
#include <vector>

#include "config.h"

namespace linnet::cri {

struct IntRange {
  int min, max;
};

// Calls f(key, value, check) for every key but those of runtimes.*. `check` is nullptr, an
// IntRange*, or the list of words that are allowed.
template <class C, class F>
void VisitKeys(C& c, F&& f) {
  static const std::vector<std::string> kLevels = {"debug", "info", "warn", "error"};
  static const std::vector<std::string> kFormats = {"logfmt", "json"};
  static constexpr IntRange kDownloads{1, 64};
  static constexpr IntRange kKept{0, 86'400};
  static constexpr IntRange kPool{0, 256};
  static constexpr IntRange kTimeout{1, 3600};
  static constexpr IntRange kIdle{1, 7 * 24 * 3600};
  f("root", c.root, nullptr);
  f("state", c.state, nullptr);
  f("socket", c.socket, nullptr);
  f("log.level", c.log.level, &kLevels);
  f("log.format", c.log.format, &kFormats);
  f("log.file", c.log.file, nullptr);
  f("registry.config_path", c.registry.config_path, nullptr);
  f("registry.max_concurrent_downloads", c.registry.max_concurrent_downloads, &kDownloads);
  f("images.preload", c.images.preload, nullptr);
  f("images.pinned", c.images.pinned, nullptr);
  f("images.keep_unfinished_seconds", c.images.keep_unfinished_seconds, &kKept);
  f("network.conf_dir", c.network.conf_dir, nullptr);
  f("network.bin_dirs", c.network.bin_dirs, nullptr);
  f("network.prefer_external", c.network.prefer_external, nullptr);
  f("network.cache_dir", c.network.cache_dir, nullptr);
  f("network.ipam_dir", c.network.ipam_dir, nullptr);
  f("network.bridge", c.network.bridge, nullptr);
  f("network.subnets", c.network.subnets, nullptr);
  f("network.pool_size", c.network.pool_size, &kPool);
  f("network.plugin_timeout_seconds", c.network.plugin_timeout_seconds, &kTimeout);
  f("streaming.address", c.streaming.address, nullptr);
  f("streaming.tls_cert_file", c.streaming.tls_cert_file, nullptr);
  f("streaming.tls_key_file", c.streaming.tls_key_file, nullptr);
  f("streaming.tls_client_ca_file", c.streaming.tls_client_ca_file, nullptr);
  f("streaming.idle_timeout_seconds", c.streaming.idle_timeout_seconds, &kIdle);
  f("streaming.creation_timeout_seconds", c.streaming.creation_timeout_seconds, &kTimeout);
  f("devices.cdi_dirs", c.devices.cdi_dirs, nullptr);
  f("devices.ownership_from_security_context", c.devices.ownership_from_security_context, nullptr);
  f("metrics.address", c.metrics.address, nullptr);
  f("programs.keeper", c.programs.keeper, nullptr);
  f("programs.cni", c.programs.cni, nullptr);
}

}  // namespace linnet::cri
