// Layers: whatever the tar says, nothing beside the layer's own directory is touched.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "linnet/base/file.h"

#include "unpack/layer_writer.h"
#include "unpack/tar_reader.h"

namespace {

using linnet::Error;
using linnet::Ok;
using linnet::Result;
using linnet::UniqueFd;

// A directory with a canary beside the layer's; in memory where there is such a file system.
struct Place {
  Place() {
    std::string name =
        access("/dev/shm", W_OK) == 0 ? "/dev/shm/linnet-fuzz-XXXXXX" : "/tmp/linnet-fuzz-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path = name;
    if (!linnet::MakeDirs(path + "/canary", 0755) ||
        !linnet::ReplaceFile(path + "/canary/file", "sings")) {
      std::abort();
    }
  }
  ~Place() { (void)linnet::RemoveAll(path); }  // in a temporary directory
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  std::string path;
};

Result<void> Unpack(const std::string& directory, std::string_view bytes) {
  const UniqueFd root = LN_TRY(linnet::OpenDir(directory));
  linnet::oci::LayerWriter writer(root, {.max_bytes = 1U << 20, .max_entries = 200});
  bool given = false;
  linnet::oci::TarReader reader([&]() -> Result<std::string_view> {
    return std::exchange(given, true) ? std::string_view() : bytes;
  });
  for (;;) {
    const linnet::oci::TarEntry* entry = LN_TRY(reader.Next());
    if (entry == nullptr) break;
    LN_TRY(writer.Place(*entry, [&reader] { return reader.Read(); }));
  }
  linnet::oci::LayerFacts facts = LN_TRY(writer.Finish());
  return linnet::oci::CompleteFromLower(root, facts, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Place place;
  const std::string layer = place.path + "/layer";
  if (mkdir(layer.c_str(), 0755) != 0) std::abort();
  (void)Unpack(layer, {reinterpret_cast<const char*>(data), size});  // errors are fine
  if (!linnet::RemoveAll(layer)) std::abort();
  struct stat st {};
  const auto beside = linnet::ListDir(place.path);
  const auto canary = linnet::ReadFile(place.path + "/canary/file");
  if (!beside || beside->size() != 1 || !canary || *canary != "sings" ||
      stat((place.path + "/canary").c_str(), &st) != 0 || (st.st_mode & 07777) != 0755 ||
      st.st_nlink != 2) {
    std::abort();
  }
  return 0;
}
