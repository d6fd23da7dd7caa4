// What every command of `linnet` has at hand.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "linnet/base/result.h"

#include "client.h"

namespace linnet::cli {

struct Globals {
  std::string address;           // empty: the default one, where a daemon is started if none runs
  std::string output = "table";  // or "json"
};

// One invocation. A command's action connects when it needs to; its result is the process's exit
// code.
class App {
 public:
  App();
  int Main(int argc, char** argv);

  CLI::App& root() { return root_; }
  const Globals& globals() const { return globals_; }
  bool json() const { return globals_.output == "json"; }
  // The daemon, started where that is allowed.
  Result<std::unique_ptr<Client>> Connect() const;
  // The parsed command line ends here; an error is printed as "linnet: …".
  void OnRun(CLI::App* command, std::function<Result<int>()> action);
  // `command` has one positional; all that stands behind it is somebody else's command line, not
  // parsed here.
  void TakesCommand(CLI::App* command);
  const std::vector<std::string>& command_words() const { return command_words_; }

 private:
  CLI::App root_;
  Globals globals_;
  // Cuts the words behind the positional of such a command off.
  void CutCommand(std::vector<std::string>& args);

  std::function<Result<int>()> action_;
  std::vector<CLI::App*> takes_command_;
  std::vector<std::string> command_words_;
};

// Each adds its commands.
void AddRun(App& app);      // run, pod run
void AddPs(App& app);       // ps
void AddStats(App& app);    // stats
void AddLogs(App& app);     // logs
void AddExec(App& app);     // exec, attach
void AddRemove(App& app);   // stop, rm
void AddInspect(App& app);  // inspect
void AddPull(App& app);     // pull
void AddImages(App& app);   // images, rmi, image …
void AddImageCommands(App& app);
void AddInfo(App& app);        // version, info
void AddNetwork(App& app);     // network dump, check, gc; ipam ls; cni install
void AddDoctor(App& app);      // doctor
void AddCompletion(App& app);  // completion

}  // namespace linnet::cli
