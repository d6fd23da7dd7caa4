// docker-registry, and an image in it, made with umoci and pushed with skopeo.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/spawn.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::testing {

// Runs a program of the PATH; its output is in the error where it fails.
Result<std::string> RunTool(const std::vector<std::string>& argv);
// The programs without which these tests cannot run; those that are missing.
std::vector<std::string> MissingTools();

class RealRegistry {
 public:
  struct Options {
    bool tls = false;    // with an authority of its own
    bool basic = false;  // user "user", password "secret"
  };
  explicit RealRegistry(const Options& options);
  // Started, and answering. Errors carry its log.
  Result<void> Start();
  std::string authority() const { return "127.0.0.1:" + port_; }
  std::string ca_path() const { return dir_ / "ca.crt"; }
  const TempDir& dir() const { return dir_; }
  // An image with one layer that holds one file; pushed as NAME ("demo/web:1").
  Result<void> Push(const std::string& name, const std::vector<std::string>& more_flags = {});
  // Signs a certificate for 127.0.0.1: dir/NAME.crt and .key, and makes the authority at the first
  // call.
  Result<void> MakeCertificate(const std::string& name);

 private:
  Options options_;
  TempDir dir_;
  std::string port_;
  Process process_;
};

}  // namespace linnet::testing
