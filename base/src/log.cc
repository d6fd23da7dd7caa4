#include "linnet/base/log.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "linnet/base/clock.h"
#include "linnet/base/json_view.h"

namespace linnet::log {
namespace {

// spdlog is the sink only: it has no fields. The logger object lives as long as the process.
struct State {
  std::atomic<Level> level{Level::kInfo};
  std::atomic<Format> format{Format::kLogfmt};
  std::shared_ptr<spdlog::logger> logger;
  State() { Use(std::make_shared<spdlog::sinks::stderr_sink_mt>()); }
  void Use(spdlog::sink_ptr sink) {
    auto next = std::make_shared<spdlog::logger>("linnet", std::move(sink));
    next->set_pattern("%v");
    next->set_level(spdlog::level::trace);
    next->flush_on(spdlog::level::trace);
    std::atomic_store(&logger, std::move(next));
  }
};

State& GetState() {
  static State state;
  return state;
}

std::string_view LevelName(Level level) {
  switch (level) {
    case Level::kDebug:
      return "debug";
    case Level::kInfo:
      return "info";
    case Level::kWarn:
      return "warn";
    case Level::kError:
      return "error";
  }
  return "info";
}

// Bare where that is unambiguous, else as a JSON string.
std::string LogfmtValue(const std::string& value) {
  // Control characters never reach a terminal as they are.
  const bool bare = !value.empty() && std::all_of(value.begin(), value.end(), [](char c) {
    return static_cast<unsigned char>(c) > ' ' && c != '=' && c != '"' && c != '\\' && c != 0x7f;
  });
  return bare ? value : DumpJson(Json(value));
}

}  // namespace

Result<Level> ParseLevel(std::string_view name) {
  for (const Level level : {Level::kDebug, Level::kInfo, Level::kWarn, Level::kError}) {
    if (name == LevelName(level)) return level;
  }
  return InvalidArgument("log level \"" + std::string(name) +
                         "\" is not one of debug, info, warn, error");
}

Result<void> Init(const Options& options) {
  State& state = GetState();
  if (!options.file.empty()) {
    try {
      state.Use(std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file));
    } catch (const spdlog::spdlog_ex& e) {
      return InvalidArgument("log file " + options.file + ": " + e.what());
    }
  }
  state.level = options.level;
  state.format = options.format;
  return Ok();
}

bool Enabled(Level level) { return level >= GetState().level.load(std::memory_order_relaxed); }

void Write(Level level, std::string_view message, Fields fields) {
  if (!Enabled(level)) return;
  State& state = GetState();
  const std::string time = FormatRfc3339Nano(SystemClock().WallNanos()).substr(0, 23) + "Z";
  std::string line;
  if (state.format.load(std::memory_order_relaxed) == Format::kJson) {
    Json json = {{"time", time}, {"level", LevelName(level)}, {"msg", message}};
    for (const Field& f : fields) json[std::string(f.key)] = f.value;
    line = DumpJson(json);
  } else {
    line = "time=" + time + " level=" + std::string(LevelName(level)) +
           " msg=" + LogfmtValue(std::string(message));
    for (const Field& f : fields)
      line.append(" ").append(f.key).append("=").append(LogfmtValue(f.value));
  }
  std::atomic_load(&state.logger)->info(line);
}

}  // namespace linnet::log
