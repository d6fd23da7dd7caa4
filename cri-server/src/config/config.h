// Configuration: defaults in place, then files, environment, options. Parsed once, before anything
// else happens.
//
//   /etc/linnet/linnet.toml, then conf.d/*.toml beside it in the order of names     may be absent
//   LINNET_NETWORK_BRIDGE=… for network.bridge; lists with commas                   may be absent
//   --root DIR …
//
// Unknown keys are errors with file and line and the nearest key that exists.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/json_view.h"
#include "linnet/base/log.h"
#include "linnet/base/result.h"

namespace linnet::cri {

inline constexpr const char* kDefaultConfigFile = "/etc/linnet/linnet.toml";
inline constexpr const char* kDefaultRoot = "/var/lib/linnet";
inline constexpr const char* kDefaultState = "/run/linnet";

struct Config {
  std::string root = kDefaultRoot;    // images, pods: survives a boot
  std::string state = kDefaultState;  // sockets, locks
  std::string socket;                 // "": <state>/linnet.sock

  struct Log {
    std::string level = "info";
    std::string format = "logfmt";
    std::string file;
  } log;
  struct Registry {
    std::string config_path = "/etc/linnet/certs.d";
    int max_concurrent_downloads = 3;
  } registry;
  struct Images {
    std::string preload;                 // "": <root>/preload
    std::vector<std::string> pinned;     // names that no garbage collection removes; * for anything
    int keep_unfinished_seconds = 3600;  // layers of a pull that failed, for the next attempt
  } images;
  struct Network {
    std::string conf_dir = "/etc/cni/net.d";
    std::vector<std::string> bin_dirs = {"/opt/cni/bin"};
    std::vector<std::string> prefer_external;
    std::string cache_dir;  // "": /var/lib/cni, with another root <root>/cni
    std::string ipam_dir;   // "": <cache_dir>/networks
    std::string bridge;     // "": linnet0, with an instance ln<instance>0
    std::vector<std::string> subnets;
    int pool_size = 8;
    int plugin_timeout_seconds = 120;
  } network;
  struct Streaming {
    std::string address = "127.0.0.1:0";
    std::string tls_cert_file, tls_key_file;  // "": no TLS
    std::string tls_client_ca_file;           // "": clients need no certificate
    int idle_timeout_seconds = 4 * 3600;
    int creation_timeout_seconds = 30;
  } streaming;
  struct Devices {
    std::vector<std::string> cdi_dirs = {"/etc/cdi", "/var/run/cdi"};
    bool ownership_from_security_context = false;
  } devices;
  struct Metrics {
    std::string address;
  } metrics;
  struct Programs {
    std::string keeper;  // "": linnet-keeper beside linnetd
    std::string cni;     // "": linnet-cni beside linnetd
  } programs;
  struct Runtime {
    std::string path;
  };
  std::map<std::string, Runtime> runtimes;

  // Not configured, but made of what is: "" for the default directories, else 4 base32 digits
  // (decision 1 of contrib/docs/architecture.md).
  std::string instance;
};

// One line of what --print-config shows.
struct Setting {
  std::string key;
  std::string value, default_value;  // as TOML
  std::string source;  // "default", "/etc/linnet/linnet.toml:7", "LINNET_ROOT", "--root"
};

struct LoadedConfig {
  Config config;
  std::vector<Setting> settings;
};

struct ConfigSources {
  std::string file;                            // "": the default one, which may be absent
  std::map<std::string, std::string> env;      // names with LINNET_; others are not looked at
  std::map<std::string, std::string> options;  // key → value of the command line
};

Result<LoadedConfig> LoadConfig(const ConfigSources& sources);
// Valid TOML, one key a line, value, source and default.
std::string PrintConfig(const LoadedConfig& loaded);
Json ConfigJson(const LoadedConfig& loaded);
// LINNET_* of this process.
std::map<std::string, std::string> LinnetEnvironment();

Result<log::Options> LogOptions(const Config::Log& config);
// By the real path of `state`, which need not exist yet.
Result<std::string> InstanceOf(const std::string& root, const std::string& state);

}  // namespace linnet::cri
