#include "unpack/block_queue.h"

namespace linnet::oci {

BlockQueue::BlockQueue() {
  free_.resize(kBlocks);  // memory comes with the first use: a small layer needs one block only
}

Result<BlockQueue::Block> BlockQueue::Acquire() {
  Block block;
  {
    MutexLock lock(mu_);
    while (free_.empty() && !stop_error_) changed_.Wait(mu_);
    if (stop_error_) return *stop_error_;
    block = std::move(free_.back());
    free_.pop_back();
  }
  // Not value-initialised: it is overwritten anyway.
  if (!block.data) block.data = std::make_unique_for_overwrite<char[]>(kBlockBytes);
  block.used = 0;
  return block;
}

void BlockQueue::Push(Block block) {
  MutexLock lock(mu_);
  if (stopped_ || block.used == 0) {
    free_.push_back(std::move(block));
  } else {
    full_.push_back(std::move(block));
  }
  changed_.NotifyAll();
}

void BlockQueue::Close(std::optional<Error> error) {
  MutexLock lock(mu_);
  if (closed_) return;
  closed_ = true;
  close_error_ = std::move(error);
  changed_.NotifyAll();
}

Result<std::string_view> BlockQueue::Next() {
  MutexLock lock(mu_);
  if (current_.data) {
    free_.push_back(std::move(current_));
    current_ = Block();
    changed_.NotifyAll();
  }
  while (full_.empty() && !closed_) changed_.Wait(mu_);
  if (full_.empty()) {
    if (close_error_) return *close_error_;
    return std::string_view();
  }
  current_ = std::move(full_.front());
  full_.pop_front();
  return std::string_view(current_.data.get(), current_.used);
}

void BlockQueue::Stop(std::optional<Error> error) {
  MutexLock lock(mu_);
  stopped_ = true;
  stop_error_ = std::move(error);
  if (current_.data) {
    free_.push_back(std::move(current_));
    current_ = Block();
  }
  for (Block& block : full_) free_.push_back(std::move(block));
  full_.clear();
  changed_.NotifyAll();
}

}  // namespace linnet::oci
