// A registry in memory, and images made for it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "linnet/oci/image_spec.h"

#include "registry/client.h"

namespace linnet::oci::testing {

// The blobs of one image, as tools would write them.
struct MadeImage {
  std::string config;
  std::string manifest;
  std::vector<std::string> layers;  // blobs
  Digest config_digest = Digest::Sha256Of("");
  Digest manifest_digest = Digest::Sha256Of("");
  std::uint64_t size = 0;  // layers and config
};

// `tars` are compressed with gzip; `diff_ids` replaces the right ones where it is not empty.
MadeImage MakeImage(const std::vector<std::string>& tars, const std::string& cmd = "/bin/sh",
                    const std::vector<std::string>& diff_ids = {});
std::string MakeIndex(const std::vector<std::pair<std::string, const MadeImage*>>& by_architecture);

// What the tests and the client that the store owns share.
class FakeRegistry {
 public:
  // Name: "example.com/repo:tag". By digest each is found in every repository.
  void Put(const std::string& name, const MadeImage& image);
  void PutIndex(const std::string& name, const std::string& index);
  void RemoveBlob(const Digest& digest);

  std::unique_ptr<RegistryClient> Client();

  int manifest_fetches() const { return manifest_fetches_; }
  int blob_fetches() const { return blob_fetches_; }
  // Blob fetches wait while the gate is closed; `started` tells how many came.
  void CloseGate();
  void OpenGate();
  void WaitForFetches(int count);
  void WaitForStops(int count);
  // Each manifest fetch fails with this.
  void FailWith(std::optional<Error> error);

 private:
  friend class FakeClient;
  Result<void> PassGate(const std::stop_token& stop);
  mutable std::mutex mu_;
  std::condition_variable_any changed_;
  bool gate_open_ = true;
  int waiting_ = 0;
  int stopped_ = 0;
  std::optional<Error> failure_;
  std::map<std::string, std::string> manifests_;  // by name and by digest
  std::map<std::string, std::string> blobs_;
  std::atomic<int> manifest_fetches_{0};
  std::atomic<int> blob_fetches_{0};
};

}  // namespace linnet::oci::testing
