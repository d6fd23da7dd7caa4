// exec: a command in a running container.
#include <cstdio>

#include "app.h"
#include "lookup.h"
#include "parse.h"

namespace linnet::cli {
namespace {

struct ExecOptions {
  std::string container, timeout = "0";
  std::vector<std::string> command;
  bool stdin_open = false, tty = false;
};

Result<int> Exec(const App& app, const ExecOptions& o) {
  if (o.stdin_open || o.tty) {
    return Error(Code::kUnimplemented, "exec with standard input or a terminal is not there yet; without -i and -t it is");
  }
  const std::int64_t timeout = LN_TRY_CTX(ParseSeconds(o.timeout), "--timeout");
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  const cri::Container container = LN_TRY(FindContainer(*client, o.container));
  cri::ExecSyncRequest request;
  request.set_container_id(container.id());
  for (const auto& word : o.command) request.add_cmd(word);
  request.set_timeout(timeout);
  const auto result = LN_TRY(client->Call(client->runtime(), &cri::RuntimeService::Stub::ExecSync, request, std::chrono::seconds(0)));
  std::fwrite(result.stdout().data(), 1, result.stdout().size(), stdout);
  std::fflush(stdout);
  std::fwrite(result.stderr().data(), 1, result.stderr().size(), stderr);
  return result.exit_code();
}

}  // namespace

void AddExec(App& app) {
  auto options = std::make_shared<ExecOptions>();
  CLI::App* exec = app.root().add_subcommand("exec", "run a command in a running container");
  exec->footer("Its output is shown when it has ended; its exit code is this command's.");
  app.TakesCommand(exec);
  exec->add_option("--timeout", options->timeout, "the command is killed after this time: 10, 1m30s (0: never)")->type_name("TIME");
  exec->add_flag("-i,--interactive", options->stdin_open, "keep standard input open");
  exec->add_flag("-t,--tty", options->tty, "with a terminal");
  exec->add_option("container", options->container, "POD, POD/CONTAINER or an id")->required()->type_name("CONTAINER");
  app.OnRun(exec, [&app, options]() -> Result<int> {
    options->command = app.command_words();
    if (options->command.empty()) return InvalidArgument("exec: no command (linnet exec " + options->container + " sh)");
    return Exec(app, *options);
  });
}

}  // namespace linnet::cli
