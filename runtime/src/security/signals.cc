#include <algorithm>
#include <array>
#include <csignal>

#include "linnet/base/text.h"
#include "linnet/runtime/security.h"

namespace linnet::runtime {
namespace {

struct Named {
  std::string_view name;
  int number;
};
// With the synonyms of signal(7). Numbers are this machine's.
constexpr std::array<Named, 36> kSignals = {{
    {"HUP", SIGHUP},       {"INT", SIGINT},     {"QUIT", SIGQUIT}, {"ILL", SIGILL},
    {"TRAP", SIGTRAP},     {"ABRT", SIGABRT},   {"IOT", SIGABRT},  {"BUS", SIGBUS},
    {"FPE", SIGFPE},       {"KILL", SIGKILL},   {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},
    {"USR2", SIGUSR2},     {"PIPE", SIGPIPE},   {"ALRM", SIGALRM}, {"TERM", SIGTERM},
    {"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD},   {"CLD", SIGCHLD},  {"CONT", SIGCONT},
    {"STOP", SIGSTOP},     {"TSTP", SIGTSTP},   {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU},
    {"URG", SIGURG},       {"XCPU", SIGXCPU},   {"XFSZ", SIGXFSZ}, {"VTALRM", SIGVTALRM},
    {"PROF", SIGPROF},     {"WINCH", SIGWINCH}, {"IO", SIGIO},     {"POLL", SIGIO},
    {"PWR", SIGPWR},       {"SYS", SIGSYS},     {"RTMIN", 34},     {"RTMAX", 64},
}};
constexpr int kRtMin = 34;  // glibc keeps 32 and 33; every tool that writes RTMIN+n means 34+n
constexpr int kRtMax = 64;

}  // namespace

Result<int> ParseSignal(std::string_view name) {
  const Error unknown = InvalidArgument("unknown signal \"" + std::string(name) + "\"");
  if (const auto number = ParseNumber<int>(name)) {
    if (*number < 1 || *number > kRtMax) return unknown;
    return *number;
  }
  const std::string upper = ToUpper(name);
  std::string_view rest = upper;
  if (rest.starts_with("SIG")) rest.remove_prefix(3);
  const auto* it = std::find_if(kSignals.begin(), kSignals.end(),
                                [&](const Named& s) { return s.name == rest; });
  if (it != kSignals.end()) return it->number;
  const bool up = rest.starts_with("RTMIN+");
  if (!up && !rest.starts_with("RTMAX-")) return unknown;
  const auto distance = ParseNumber<unsigned>(rest.substr(6));
  if (!distance || *distance > kRtMax - kRtMin) return unknown;
  return up ? kRtMin + static_cast<int>(*distance) : kRtMax - static_cast<int>(*distance);
}

}  // namespace linnet::runtime
