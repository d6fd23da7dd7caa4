// logs: what a container wrote.
#include <chrono>

#include "app.h"
#include "follow.h"
#include "lookup.h"

namespace linnet::cli {
namespace {

struct LogsOptions {
  std::string container;
  LogOptions log;
  std::int64_t tail = -1;
};

Result<int> Logs(const App& app, LogsOptions o) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  const cri::Container container = LN_TRY(FindContainer(*client, o.container));
  const cri::ContainerStatus status = LN_TRY(StatusOf(*client, container.id()));
  if (status.log_path().empty()) {
    return FailedPrecondition("container \"" + o.container +
                              "\" keeps no log (it was made without log_directory or log_path)");
  }
  if (o.tail >= 0) o.log.tail = static_cast<std::uint64_t>(o.tail);
  auto last_asked = std::chrono::steady_clock::time_point();
  bool over = false;
  const auto ended = [&] {
    const auto now = std::chrono::steady_clock::now();
    if (over || now - last_asked < std::chrono::milliseconds(500)) return over;
    last_asked = now;
    auto current = StatusOf(*client, container.id());
    over = !current || current->state() == cri::CONTAINER_EXITED;
    return over;
  };
  LN_TRY(PrintLog(status.log_path(), o.log, ended));
  return 0;
}

}  // namespace

void AddLogs(App& app) {
  auto options = std::make_shared<LogsOptions>();
  CLI::App* logs = app.root().add_subcommand("logs", "show what a container wrote");
  logs->add_flag("-f,--follow", options->log.follow, "go on until the container ends");
  logs->add_flag("-t,--timestamps", options->log.timestamps, "each line with its time");
  logs->add_option("--tail", options->tail, "only the last lines")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  logs->add_option("container", options->container, "POD, POD/CONTAINER or an id")
      ->required()
      ->type_name("CONTAINER");
  app.OnRun(logs, [&app, options] { return Logs(app, *options); });
}

}  // namespace linnet::cli
