// completion: what a shell needs to complete this command line, made from the commands themselves.
#include <cstdio>

#include "linnet/base/text.h"

#include "app.h"

namespace linnet::cli {
namespace {

std::string Words(const CLI::App& app, bool inherited, const CLI::App& root) {
  std::vector<std::string> words;
  for (const CLI::App* sub :
       app.get_subcommands([](const CLI::App* s) { return !s->get_name().empty(); }))
    words.push_back(sub->get_name());
  const auto add = [&words](const CLI::App& from) {
    for (const CLI::Option* option : from.get_options()) {
      for (const auto& name : option->get_lnames()) words.push_back("--" + name);
      for (const auto& name : option->get_snames()) words.push_back("-" + name);
    }
  };
  add(app);
  if (inherited) add(root);
  return Join(words, " ");
}

// "run" → words, "pod run" → words.
void Collect(const CLI::App& app, const std::string& path, const CLI::App& root,
             std::vector<std::pair<std::string, std::string>>& out) {
  out.emplace_back(path, Words(app, !path.empty(), root));
  for (const CLI::App* sub :
       app.get_subcommands([](const CLI::App* s) { return !s->get_name().empty(); })) {
    Collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), root, out);
  }
}

void PrintBash(const CLI::App& root) {
  std::vector<std::pair<std::string, std::string>> commands;
  Collect(root, "", root, commands);
  std::printf(
      "_linnet() {\n"
      "  local word path='' words='' current=${COMP_WORDS[COMP_CWORD]}\n"
      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
      "    case $word in -*) ;; *) path=\"$path${path:+ }$word\" ;; esac\n"
      "  done\n"
      "  while :; do\n"
      "    case $path in\n");
  for (const auto& [path, words] : commands)
    std::printf("      '%s') words='%s' ;;\n", path.c_str(), words.c_str());
  std::printf(
      "      *) case $path in *' '*) path=${path%% *}; continue ;; *) path=''; continue ;; esac "
      ";;\n"
      "    esac\n"
      "    break\n"
      "  done\n"
      "  case $current in\n"
      "    -*) ;;\n"
      "    *) case $path in\n"
      "         logs | exec | inspect) words=\"$words $(linnet ps -aq 2>/dev/null)\" ;;\n"
      "         stop | rm) words=\"$words $(linnet ps -aq 2>/dev/null)\" ;;\n"
      "         rmi | run) words=\"$words $(linnet images 2>/dev/null | awk 'NR > 1 && $2 != \"-\" "
      "{ print $1 \":\" $2 }')\" ;;\n"
      "         'image import') COMPREPLY=($(compgen -f -- \"$current\")); return ;;\n"
      "       esac ;;\n"
      "  esac\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
      "}\n"
      "complete -F _linnet linnet\n");
}

}  // namespace

void AddCompletion(App& app) {
  auto shell = std::make_shared<std::string>("bash");
  CLI::App* completion =
      app.root().add_subcommand("completion", "print a script that completes this command line");
  completion->footer(
      "bash:  source <(linnet completion bash)\n"
      "zsh:   autoload -U bashcompinit && bashcompinit && source <(linnet completion zsh)");
  completion->add_option("shell", *shell, "bash or zsh")
      ->check(CLI::IsMember({"bash", "zsh"}))
      ->capture_default_str();
  app.OnRun(completion, [&app]() -> Result<int> {
    PrintBash(app.root());
    return 0;
  });
}

}  // namespace linnet::cli
