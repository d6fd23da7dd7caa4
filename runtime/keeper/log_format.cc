#include "log_format.h"

#include <cstdlib>
#include <cstring>

namespace linnet::runtime::keeper {
namespace {

constexpr int kLinesAtOnce = 32;
constexpr std::size_t kHeadSize = kStampSize + sizeof(" stdout F ") - 1;

void Digits(char* out, std::uint64_t value, int width) {
  for (int i = width - 1; i >= 0; --i) {
    out[i] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
}

// Days since 1970 to the calendar: years of 400-year eras that begin in March.
void FormatDate(std::int64_t days, char* out) {
  const std::int64_t shifted = days + 719468;
  const std::int64_t era = shifted / 146097;
  const std::int64_t day_of_era = shifted - era * 146097;
  const std::int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const std::int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const std::int64_t shifted_month = (5 * day_of_year + 2) / 153;
  const std::int64_t day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
  const std::int64_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  const std::int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  Digits(out, static_cast<std::uint64_t>(year), 4);
  out[4] = '-';
  Digits(out + 5, static_cast<std::uint64_t>(month), 2);
  out[7] = '-';
  Digits(out + 8, static_cast<std::uint64_t>(day), 2);
}

}  // namespace

void FormatStamp(std::int64_t wall_nanos, char* out) {
  if (wall_nanos < 0) wall_nanos = 0;
  const std::int64_t seconds = wall_nanos / 1000000000;
  const std::int64_t of_day = seconds % 86400;
  FormatDate(seconds / 86400, out);
  out[10] = 'T';
  Digits(out + 11, static_cast<std::uint64_t>(of_day / 3600), 2);
  out[13] = ':';
  Digits(out + 14, static_cast<std::uint64_t>(of_day / 60 % 60), 2);
  out[16] = ':';
  Digits(out + 17, static_cast<std::uint64_t>(of_day % 60), 2);
  out[19] = '.';
  Digits(out + 20, static_cast<std::uint64_t>(wall_nanos % 1000000000), 9);
  out[29] = 'Z';
}

// Lines that were cut but not written yet. On the stack: a keeper that logs nothing pays nothing.
struct LogStream::Batch {
  LogSink* sink;
  char stamp[kStampSize];
  int lines = 0, parts = 0;
  char heads[kLinesAtOnce][kHeadSize];
  iovec iov[kLinesAtOnce * 4];

  void Part(const char* data, std::size_t size) {
    if (size == 0) return;
    iov[parts].iov_base = const_cast<char*>(
        data);  // NOLINT(cppcoreguidelines-pro-type-const-cast): writev only reads
    iov[parts++].iov_len = size;
  }
  void Flush() {
    if (parts > 0) sink->write(sink, iov, parts);
    lines = parts = 0;
  }
};

LogStream::~LogStream() { std::free(partial_); }

void LogStream::AddLine(Batch& batch, char tag, const char* data, std::size_t size) {
  char* head = batch.heads[batch.lines++];
  std::memcpy(head, batch.stamp, kStampSize);
  std::memcpy(head + kStampSize, name_ == Name::kStdout ? " stdout " : " stderr ", 8);
  head[kStampSize + 8] = tag;
  head[kStampSize + 9] = ' ';
  batch.Part(head, kHeadSize);
  const bool with_partial = partial_size_ > 0;
  batch.Part(partial_, partial_size_);
  batch.Part(data, size);
  batch.Part("\n", 1);
  // What was kept is written before it is overwritten.
  if (with_partial || batch.lines == kLinesAtOnce) batch.Flush();
  partial_size_ = 0;
}

void LogStream::Keep(const char* data, std::size_t size) {
  const std::size_t needed = partial_size_ + size;
  if (needed > partial_capacity_) {
    const std::size_t capacity =
        needed > kMaxLogLine / 4 ? kMaxLogLine : (needed + 511) / 512 * 512;
    auto* grown = static_cast<char*>(std::realloc(partial_, capacity));
    if (grown == nullptr) return;  // no memory: this part is lost, the container goes on
    partial_ = grown;
    partial_capacity_ = static_cast<std::uint32_t>(capacity);
  }
  std::memcpy(partial_ + partial_size_, data, size);
  partial_size_ = static_cast<std::uint32_t>(needed);
}

void LogStream::Feed(const char* data, std::size_t size, std::int64_t wall_nanos, LogSink* sink) {
  if (wall_nanos > last_) last_ = wall_nanos;
  Batch batch;
  batch.sink = sink;
  FormatStamp(last_, batch.stamp);
  while (size > 0) {
    const auto* newline = static_cast<const char*>(std::memchr(data, '\n', size));
    const std::size_t length = newline != nullptr ? static_cast<std::size_t>(newline - data) : size;
    if (partial_size_ + length > kMaxLogLine) {
      const std::size_t piece = kMaxLogLine - partial_size_;
      AddLine(batch, 'P', data, piece);
      data += piece;
      size -= piece;
      continue;
    }
    if (newline == nullptr) {
      batch.Flush();
      Keep(data, size);
      return;
    }
    AddLine(batch, 'F', data, length);
    data += length + 1;
    size -= length + 1;
  }
  batch.Flush();
  if (partial_size_ == 0 && partial_ != nullptr) {
    std::free(partial_);
    partial_ = nullptr;
    partial_capacity_ = 0;
  }
}

void LogStream::Finish(std::int64_t wall_nanos, LogSink* sink) {
  if (partial_size_ == 0) return;
  if (wall_nanos > last_) last_ = wall_nanos;
  Batch batch;
  batch.sink = sink;
  FormatStamp(last_, batch.stamp);
  AddLine(batch, 'P', nullptr, 0);
  batch.Flush();
}

}  // namespace linnet::runtime::keeper
