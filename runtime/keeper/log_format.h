// Output of a container as lines of the CRI log format:
//   2026-01-02T03:04:05.123456789Z stdout F a whole line
//   2026-01-02T03:04:05.123456789Z stderr P the first 16 KiB of a longer one, or one that never
//   ended
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace linnet::runtime::keeper {

inline constexpr std::size_t kMaxLogLine = 16384;  // as the peers cut them
inline constexpr std::size_t kStampSize = 30;      // "2026-01-02T03:04:05.123456789Z"

// Always nine digits, UTC; no terminator is written.
void FormatStamp(std::int64_t wall_nanos, char* out);

// Where lines go: `parts` make up whole lines. Whatever becomes of them, the stream goes on.
struct LogSink {
  void (*write)(LogSink* self, const iovec* parts, int count);
};

// One stream. Holds at most one unfinished line (kMaxLogLine), and memory for it only while there
// is one.
class LogStream {
 public:
  enum class Name : unsigned char { kStdout, kStderr };
  explicit LogStream(Name name) : name_(name) {}
  ~LogStream();
  LogStream(const LogStream&) = delete;
  LogStream& operator=(const LogStream&) = delete;

  void Feed(const char* data, std::size_t size, std::int64_t wall_nanos, LogSink* sink);
  // An unfinished line is written as a partial one.
  void Finish(std::int64_t wall_nanos, LogSink* sink);

 private:
  struct Batch;
  void AddLine(Batch& batch, char tag, const char* data, std::size_t size);
  void Keep(const char* data, std::size_t size);

  char* partial_ = nullptr;
  std::uint32_t partial_size_ = 0, partial_capacity_ = 0;
  std::int64_t last_ = 0;
  Name name_;
};

}  // namespace linnet::runtime::keeper
