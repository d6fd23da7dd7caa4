#include <string_view>

#include "linnet/base/file.h"
#include "linnet/base/text.h"
#include "linnet/runtime/runtime.h"

#include "keeper/protocol.h"

namespace linnet::runtime {
namespace {

constexpr std::size_t kMaxRecord = 4096;

// The lines come in one order, each once; the last one says that the file is whole.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}
  // The value of the next line, which must have this key; empty and bad() otherwise.
  std::string_view Next(std::string_view key) {
    const std::size_t end = rest_.find('\n');
    const std::string_view line = rest_.substr(0, end);
    if (end == std::string_view::npos || !line.starts_with(key) || line.size() <= key.size() ||
        line[key.size()] != '=') {
      bad_ = true;
      return {};
    }
    rest_.remove_prefix(end + 1);
    return line.substr(key.size() + 1);
  }
  template <class T>
  T Number(std::string_view key) {
    const auto value = ParseNumber<T>(Next(key));
    if (!value) bad_ = true;
    return value ? *value : T{};
  }
  bool complete() const { return !bad_ && rest_ == "end\n"; }
  bool bad() const { return bad_; }

 private:
  std::string_view rest_;
  bool bad_ = false;
};

}  // namespace

Result<ContainerExit> ReadExitRecord(const ContainerId& id, const std::string& directory) {
  const std::string path = JoinPath(directory, keeper::kExitRecordName);
  const std::string text = LN_TRY(ReadFile(path, kMaxRecord));
  Lines lines(text);
  const int version = lines.Number<int>("version");
  if (lines.bad() || version != keeper::kExitRecordVersion)
    return NotFound(path + ": torn, or of another version");
  if (lines.Next("id") != id.str()) return NotFound(path + ": of another container, or torn");
  ContainerExit exit{.id = id};
  exit.exit_code = lines.Number<int>("code");
  exit.signal = lines.Number<int>("signal");
  exit.oom_killed = lines.Number<int>("oom_killed") != 0;
  exit.started_at_ns = lines.Number<std::int64_t>("started_at");
  exit.finished_at_ns = lines.Number<std::int64_t>("finished_at");
  if (!lines.complete()) return NotFound(path + ": torn");
  return exit;
}

}  // namespace linnet::runtime
