// exec, attach: speaking with a running container.
#include <cstdio>

#include "linnet/base/json_view.h"

#include "app.h"
#include "lookup.h"
#include "parse.h"
#include "stream.h"

namespace linnet::cli {
namespace {

// Its OCI spec says so: process.terminal.
bool HasTerminal(const cri::ContainerStatusResponse& status) {
  const auto info = status.info().find("info");
  if (info == status.info().end()) return false;
  const auto json = ParseJson(info->second);
  static const Json::json_pointer kTerminal("/runtimeSpec/process/terminal");
  return json && json->contains(kTerminal) && (*json)[kTerminal] == true;
}

struct ExecOptions {
  std::string container, timeout = "0";
  std::vector<std::string> command;
  bool stdin_open = false, tty = false;
};

Result<int> ExecStream(Client& client, const std::string& id, const ExecOptions& o) {
  cri::ExecRequest request;
  request.set_container_id(id);
  for (const auto& word : o.command) request.add_cmd(word);
  request.set_stdin(o.stdin_open);
  request.set_tty(o.tty);
  request.set_stdout(true);
  request.set_stderr(!o.tty);
  const auto response =
      LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::Exec, request));
  return RunStream(response.url(), {.stdin_open = o.stdin_open, .tty = o.tty});
}

struct AttachOptions {
  std::string container;
  bool no_stdin = false;
};

Result<int> Attach(const App& app, const AttachOptions& o) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  const cri::Container container = LN_TRY(FindContainer(*client, o.container));
  cri::ContainerStatusRequest status;
  status.set_container_id(container.id());
  status.set_verbose(true);
  const auto info =
      LN_TRY(client->Call(client->runtime(), &cri::RuntimeService::Stub::ContainerStatus, status));
  const bool tty = HasTerminal(info);
  cri::AttachRequest request;
  request.set_container_id(container.id());
  request.set_stdin(!o.no_stdin);
  request.set_tty(tty);
  request.set_stdout(true);
  request.set_stderr(!tty);
  const auto response =
      LN_TRY(client->Call(client->runtime(), &cri::RuntimeService::Stub::Attach, request));
  return RunStream(response.url(), {.stdin_open = !o.no_stdin, .tty = tty});
}

Result<int> Exec(const App& app, const ExecOptions& o) {
  const std::int64_t timeout = LN_TRY_CTX(ParseSeconds(o.timeout), "--timeout");
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  const cri::Container container = LN_TRY(FindContainer(*client, o.container));
  if (o.stdin_open || o.tty) {
    if (timeout != 0) return InvalidArgument("--timeout is not for -i and -t");
    return ExecStream(*client, container.id(), o);
  }
  cri::ExecSyncRequest request;
  request.set_container_id(container.id());
  for (const auto& word : o.command) request.add_cmd(word);
  request.set_timeout(timeout);
  const auto result = LN_TRY(client->Call(client->runtime(), &cri::RuntimeService::Stub::ExecSync,
                                          request, std::chrono::seconds(0)));
  std::fwrite(result.stdout().data(), 1, result.stdout().size(), stdout);
  std::fflush(stdout);
  std::fwrite(result.stderr().data(), 1, result.stderr().size(), stderr);
  return result.exit_code();
}

}  // namespace

void AddExec(App& app) {
  auto options = std::make_shared<ExecOptions>();
  CLI::App* exec = app.root().add_subcommand("exec", "run a command in a running container");
  exec->footer(
      "Its exit code is this command's. Without -i and -t its output is shown when it has ended.");
  app.TakesCommand(exec);
  exec->add_option("--timeout", options->timeout,
                   "the command is killed after this time: 10, 1m30s (0: never)")
      ->type_name("TIME");
  exec->add_flag("-i,--interactive", options->stdin_open, "keep standard input open");
  exec->add_flag("-t,--tty", options->tty, "with a terminal");
  exec->add_option("container", options->container, "POD, POD/CONTAINER or an id")
      ->required()
      ->type_name("CONTAINER");
  app.OnRun(exec, [&app, options]() -> Result<int> {
    options->command = app.command_words();
    if (options->command.empty())
      return InvalidArgument("exec: no command (linnet exec " + options->container + " sh)");
    return Exec(app, *options);
  });

  auto attach_options = std::make_shared<AttachOptions>();
  CLI::App* attach = app.root().add_subcommand("attach", "speak with a container's first process");
  attach->footer(
      "What it writes from now on is shown; the end of standard input detaches only where the "
      "container takes it once.");
  attach->add_flag("--no-stdin", attach_options->no_stdin, "only look");
  attach->add_option("container", attach_options->container, "POD, POD/CONTAINER or an id")
      ->required()
      ->type_name("CONTAINER");
  app.OnRun(attach, [&app, attach_options] { return Attach(app, *attach_options); });
}

}  // namespace linnet::cli
