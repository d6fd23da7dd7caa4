#include "progress.h"

#include <unistd.h>

#include <cstdio>

#include "linnet/base/text.h"

namespace linnet::cli {

Progress::Progress(bool quiet) : shown_(!quiet && ::isatty(STDERR_FILENO) == 1) {}

void Progress::Show(const std::string& what, std::uint64_t done, std::uint64_t total) {
  const auto now = std::chrono::steady_clock::now();
  if (!shown_ || now - last_ < std::chrono::milliseconds(50)) return;
  last_ = now;
  std::string line = what + "   " + FormatBytes(done);
  if (total > 0) line += " of " + FormatBytes(total);
  std::fprintf(stderr, "\r\033[K%.*s", 78, line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::Clear() {
  if (drawn_) std::fprintf(stderr, "\r\033[K");
  drawn_ = false;
}

}  // namespace linnet::cli
