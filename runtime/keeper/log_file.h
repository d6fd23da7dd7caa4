// The log of one container: a file beneath the pod's log directory, which containers may be able to
// write to.
#pragma once

#include "log_format.h"

namespace linnet::runtime::keeper {

struct LogFile : LogSink {
  LogFile();
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  // Takes `dir`. errno of what failed, or 0. Without a path: what is written is dropped.
  int Open(int dir, const char* path);
  // A new file at the same path; the old one is closed afterwards. errno (the old one is still
  // written to), or 0.
  int Reopen();
  void Close();
  bool is_open() const { return fd_ >= 0; }
  bool dropped() const { return dropped_bytes_ > 0; }

 private:
  int OpenFile() const;
  void Write(const iovec* parts, int count);
  bool WriteAll(iovec* parts, int count, std::size_t bytes);
  void WriteNote();

  int dir_ = -1, fd_ = -1;
  char* path_ = nullptr;
  bool torn_ = false;                // the file ends within a line
  std::uint64_t dropped_bytes_ = 0;  // since the last line that could be written
  int drop_errno_ = 0;
};

}  // namespace linnet::runtime::keeper
