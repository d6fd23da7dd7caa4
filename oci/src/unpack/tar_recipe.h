// A layer's tar, without the contents of its files: headers, order and padding, kept beside the
// unpacked tree (layers/<name>/tar.zst), so that the exact bytes can be made again for save, push
// and fsck. It takes some 50 bytes a file.
//
// Format, within one zstd frame: "linnet-tar-1\n", then records: a letter, 8 bytes little endian n.
//
//   M n + n bytes   literally these
//   F n             the n bytes of the next regular file that the headers so far speak of
//   S 0             the next regular file is sparse: what the tar has of it follows literally
//   E n             the end; the tar has n bytes
//
// Names are not repeated: the tar reader finds them in the literal bytes again.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "unpack/tar_reader.h"

namespace linnet::oci {

inline constexpr const char* kRecipeName = "tar.zst";

struct RecipeFacts {
  bool exact = false;  // false: there is no recipe, and the tar cannot be made again
  std::uint64_t tar_bytes = 0;
  std::uint64_t recipe_bytes = 0;
};

// Thread-compatible. Recording never fails: what cannot be recorded (the disk is full, a file named
// twice, an archive that is mostly something else than files) ends it, and Finish says so.
class TarRecorder {
 public:
  // Makes `directory`/tar.zst; `directory` stays open until the recorder is gone.
  explicit TarRecorder(FdRef directory);
  ~TarRecorder();
  TarRecorder(const TarRecorder&) = delete;
  TarRecorder& operator=(const TarRecorder&) = delete;

  // All bytes of the tar, in order, each piece before the reader sees it.
  void Feed(std::string_view bytes);
  // Each entry as the reader tells it, with its cleaned name; `data_bytes` of a regular file.
  void SawEntry(std::string_view path, std::uint64_t data_bytes);
  RecipeFacts Finish();

 private:
  struct Output;
  enum class At : std::uint8_t { kHeader, kExtension, kLiteral, kContent, kPadding, kTail };

  void TakeHeader();
  void TakeEntry(char type, std::uint64_t size);
  void EndPart();
  void Literal(std::string_view bytes);
  void FlushLiteral();
  void Put(char letter, std::uint64_t n, std::string_view bytes);
  void GiveUp();

  FdRef directory_;
  std::unique_ptr<Output> out_;  // null: given up
  At at_ = At::kHeader;
  std::string header_;       // of the 512 bytes, those that came
  std::uint64_t left_ = 0;   // of what at_ says
  std::uint64_t after_ = 0;  // bytes of padding behind it
  bool collecting_pax_ = false;
  std::string pax_;
  std::optional<std::uint64_t> pax_size_;
  bool pax_sparse_ = false;
  bool sparse_then_ = false;  // the data behind the extension blocks is a sparse file's
  std::uint64_t sparse_bytes_ = 0;
  std::string literal_;
  std::uint64_t total_ = 0;
  // What was recorded and the reader has not told yet; nullopt: sparse, its size is not known here.
  std::deque<std::optional<std::uint64_t>> announced_;
  std::vector<std::uint64_t> names_;  // hashes, in order; lowest bit: it has data
};

// Makes the tar again. Thread-compatible.
class TarRebuilder {
 public:
  using Sink = std::function<Result<void>(std::string_view)>;
  struct Source {
    FdRef layer;  // the directory with tar.zst and fs/
    FdRef tree;   // fs/
    // Directories that were put elsewhere, from → to (LayerFacts::moved).
    const std::map<std::string, std::string>* moved = nullptr;
  };
  // Errors: kFailedPrecondition there is no recipe; kDataLoss it is damaged, or a file is not what
  // it was (the name is in the message); the sink's, as they are. Whether the bytes are right is
  // for the caller to see, by their digest.
  static Result<void> Run(const Source& source, const Sink& sink);
  // The entries of the tar, without their contents; no file of the layer is read.
  static Result<void> ForEachEntry(FdRef layer,
                                   const std::function<Result<void>(const TarEntry&)>& visit);
};

}  // namespace linnet::oci
