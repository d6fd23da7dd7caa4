// One line on a terminal that says how far something is; nothing where standard error is none.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace linnet::cli {

class Progress {
 public:
  explicit Progress(bool quiet);
  ~Progress() { Clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // `total` 0: not known.
  void Show(const std::string& what, std::uint64_t done, std::uint64_t total);
  void Clear();

 private:
  const bool shown_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace linnet::cli
