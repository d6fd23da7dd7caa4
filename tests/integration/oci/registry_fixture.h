// Registry client, blobs and manifests for the tests of this folder.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/json_view.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "media_types.h"
#include "registry/client.h"

namespace linnet::oci {

// 300,000 bytes that repeat nowhere near.
inline std::string TestBlob() {
  std::string out;
  out.reserve(300'000);
  std::uint32_t x = 12345;
  while (out.size() < 300'000) {
    x = x * 1664525U + 1013904223U;
    out += static_cast<char>(x >> 24);
  }
  return out;
}

inline Descriptor DescriptorOf(const std::string& bytes) {
  return {.media_type = "application/vnd.oci.image.layer.v1.tar",
          .digest = Digest::Sha256Of(bytes),
          .size = bytes.size()};
}

inline std::string TestManifest() {
  const std::string digest = "sha256:" + std::string(64, 'c');
  return Json{{"schemaVersion", 2},
              {"mediaType", media_type::kOciManifest},
              {"config",
               {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                {"digest", digest},
                {"size", 2}}},
              {"layers", Json::array()}}
      .dump();
}

class RegistryFixture : public ::testing::Test {
 protected:
  RegistryFixture() {
    auto client = RegistryClient::Create(
        {.config_path = config_.path(), .no_progress_timeout = std::chrono::seconds(1)});
    LN_CHECK(client.has_value());
    client_ = *std::move(client);
  }

  static Reference Ref(const std::string& text) {
    auto ref = Reference::Parse(text);
    LN_CHECK(ref.has_value());
    return *std::move(ref);
  }

  RegistryClient::Call CallWith(const RegistryAuth& auth) {
    auth_ = auth;
    return {.auth = &auth_};
  }

  // The error's text says where it is from; "" on success. What came is in `received_`.
  Result<void> Fetch(const std::string& ref, const Descriptor& blob,
                     const RegistryClient::Call& call = {}) {
    received_.clear();
    return client_->FetchBlob(Ref(ref), blob, call, [this](std::string_view bytes) {
      received_ += bytes;
      return Ok();
    });
  }

  linnet::testing::TempDir config_;  // of hosts.toml files
  RegistryAuth auth_;
  std::unique_ptr<RegistryClient> client_;
  std::string received_;
};

}  // namespace linnet::oci
