#include <algorithm>
#include <cstdio>

#include "linnet/base/file.h"

#include "app.h"
#include "daemon.h"

namespace linnet::cli {
namespace {

constexpr const char* kAbout =
    "linnet runs pods on this machine: containers with a network, from any registry.\n\n"
    "  linnet run -d --name web -p 8080:80 docker.io/library/nginx\n"
    "  linnet ps\n"
    "  linnet logs -f web\n"
    "  linnet rm --force web\n";

}  // namespace

App::App() : root_(kAbout, "linnet") {
  root_.require_subcommand(1);
  root_.fallthrough();
  root_.get_formatter()->column_width(32);
  root_
      .add_option("--address", globals_.address,
                  std::string("the daemon's socket (default: ") + kDefaultSocket +
                      ", where one is started if none runs)")
      ->envname("LINNET_ADDRESS")
      ->type_name("SOCKET");
  root_.add_option("-o,--output", globals_.output, "how lists are printed: table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->type_name("FORMAT")
      ->default_str("table");
  AddRun(*this);
  AddPs(*this);
  AddStats(*this);
  AddLogs(*this);
  AddExec(*this);
  AddRemove(*this);
  AddInspect(*this);
  AddPull(*this);
  AddImages(*this);
  AddInfo(*this);
  AddNetwork(*this);
  AddDoctor(*this);
  AddCompletion(*this);
}

void App::OnRun(CLI::App* command, std::function<Result<int>()> action) {
  command->callback([this, action = std::move(action)] { action_ = action; });
}

Result<std::unique_ptr<Client>> App::Connect() const {
  const bool is_default = globals_.address.empty();
  const std::string socket = LN_TRY(SocketPath(is_default ? kDefaultSocket : globals_.address));
  if (!Listens(socket)) {
    if (!is_default) {
      return Unavailable("no daemon listens on " + socket + " (start one: linnetd --socket " +
                         socket + ")");
    }
    LN_TRY(StartDaemon(socket));
  }
  return std::make_unique<Client>(socket);
}

void App::TakesCommand(CLI::App* command) {
  command->footer(
      command->get_footer() + "\n\nUsage: linnet " + command->get_name() + " [OPTIONS] " +
      (command->get_name() == "run" ? "IMAGE [COMMAND…]" : "CONTAINER COMMAND…") +
      "\nWhat stands behind the " + (command->get_name() == "run" ? "image" : "container") +
      " is the command, options and all.");
  takes_command_.push_back(command);
}

void App::CutCommand(std::vector<std::string>& args) {
  const CLI::App* command = nullptr;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--") continue;
    if (arg.size() > 1 && arg.front() == '-') {
      const std::string name = arg.substr(0, arg.find('='));
      const CLI::Option* option = command != nullptr ? command->get_option_no_throw(name) : nullptr;
      if (option == nullptr) option = root_.get_option_no_throw(name);
      const bool value_follows =
          option != nullptr && option->get_items_expected_max() > 0 && name == arg;
      if (value_follows) ++i;
      continue;
    }
    if (command == nullptr) {
      for (const CLI::App* candidate : takes_command_) {
        if (candidate->check_name(arg)) command = candidate;
      }
      if (command == nullptr) return;
      continue;
    }
    const auto rest = args.begin() + static_cast<std::ptrdiff_t>(i) + 1;
    command_words_.assign(rest, args.end());
    args.erase(rest, args.end());
    if (!command_words_.empty() && command_words_.front() == "--")
      command_words_.erase(command_words_.begin());
    return;
  }
}

int App::Main(int argc, char** argv) {
  std::vector<std::string> args(argv + 1, argv + argc);
  CutCommand(args);
  std::reverse(args.begin(), args.end());  // as CLI11 wants them
  try {
    root_.parse(args);
  } catch (const CLI::ParseError& e) {
    return root_.exit(e) == 0 ? 0 : 2;
  }
  if (!action_) return 0;
  Result<int> code = action_();
  if (!code) {
    std::fprintf(stderr, "linnet: %s\n", code.error().message().c_str());
    return 1;
  }
  if (std::fflush(stdout) != 0) return 1;
  return *code;
}

}  // namespace linnet::cli
