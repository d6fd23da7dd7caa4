// A bounded queue of byte blocks between the thread that downloads and decompresses a layer and the
// one that places its files. The blocks are made once and go round.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"

namespace linnet::oci {

// One producer, one consumer. Thread-safe between the two.
class BlockQueue {
 public:
  static constexpr std::size_t kBlockBytes = 256U << 10;
  static constexpr std::size_t kBlocks = 8;

  struct Block {
    std::unique_ptr<char[]> data;
    std::size_t used = 0;
  };

  BlockQueue();

  // Producer: an empty block, when there is one. Errors: what the consumer gave to Stop.
  Result<Block> Acquire();
  void Push(Block block);
  // Producer: nothing more comes; with an error the consumer sees that error after what was pushed
  // before.
  void Close(std::optional<Error> error);

  // Consumer: the next bytes, valid until the next call; empty at the end.
  Result<std::string_view> Next();
  // Consumer: wants nothing more. The producer's next Acquire fails with `error`, or, without one,
  // gets blocks for ever.
  void Stop(std::optional<Error> error);

 private:
  Mutex mu_;
  CondVar changed_;
  std::vector<Block> free_ LN_GUARDED_BY(mu_);
  std::deque<Block> full_ LN_GUARDED_BY(mu_);
  bool closed_ LN_GUARDED_BY(mu_) = false;
  bool stopped_ LN_GUARDED_BY(mu_) = false;
  std::optional<Error> close_error_ LN_GUARDED_BY(mu_);
  std::optional<Error> stop_error_ LN_GUARDED_BY(mu_);
  Block current_;  // the consumer's
};

}  // namespace linnet::oci
