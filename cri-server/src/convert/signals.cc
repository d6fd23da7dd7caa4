#include "signals.h"

#include <array>
#include <csignal>
#include <string>

namespace linnet::cri {
namespace {

namespace v1 = ::runtime::v1;

struct Entry {
  v1::Signal cri;
  int number;
};

// Two names of one signal: the usual one stands first.
constexpr std::array kNamed = {
    Entry{v1::SIGNAL_SIGABRT, SIGABRT},     Entry{v1::SIGNAL_SIGALRM, SIGALRM},
    Entry{v1::SIGNAL_SIGBUS, SIGBUS},       Entry{v1::SIGNAL_SIGCHLD, SIGCHLD},
    Entry{v1::SIGNAL_SIGCLD, SIGCHLD},      Entry{v1::SIGNAL_SIGCONT, SIGCONT},
    Entry{v1::SIGNAL_SIGFPE, SIGFPE},       Entry{v1::SIGNAL_SIGHUP, SIGHUP},
    Entry{v1::SIGNAL_SIGILL, SIGILL},       Entry{v1::SIGNAL_SIGINT, SIGINT},
    Entry{v1::SIGNAL_SIGIO, SIGIO},         Entry{v1::SIGNAL_SIGIOT, SIGABRT},
    Entry{v1::SIGNAL_SIGKILL, SIGKILL},     Entry{v1::SIGNAL_SIGPIPE, SIGPIPE},
    Entry{v1::SIGNAL_SIGPOLL, SIGIO},       Entry{v1::SIGNAL_SIGPROF, SIGPROF},
    Entry{v1::SIGNAL_SIGPWR, SIGPWR},       Entry{v1::SIGNAL_SIGQUIT, SIGQUIT},
    Entry{v1::SIGNAL_SIGSEGV, SIGSEGV},     Entry{v1::SIGNAL_SIGSTKFLT, SIGSTKFLT},
    Entry{v1::SIGNAL_SIGSTOP, SIGSTOP},     Entry{v1::SIGNAL_SIGSYS, SIGSYS},
    Entry{v1::SIGNAL_SIGTERM, SIGTERM},     Entry{v1::SIGNAL_SIGTRAP, SIGTRAP},
    Entry{v1::SIGNAL_SIGTSTP, SIGTSTP},     Entry{v1::SIGNAL_SIGTTIN, SIGTTIN},
    Entry{v1::SIGNAL_SIGTTOU, SIGTTOU},     Entry{v1::SIGNAL_SIGURG, SIGURG},
    Entry{v1::SIGNAL_SIGUSR1, SIGUSR1},     Entry{v1::SIGNAL_SIGUSR2, SIGUSR2},
    Entry{v1::SIGNAL_SIGVTALRM, SIGVTALRM}, Entry{v1::SIGNAL_SIGWINCH, SIGWINCH},
    Entry{v1::SIGNAL_SIGXCPU, SIGXCPU},     Entry{v1::SIGNAL_SIGXFSZ, SIGXFSZ},
};

// SIGRTMIN…SIGRTMAX are 34…64 for programs with glibc or musl (signal(7)), and 35…65 here.
constexpr int kRealTimeShift = 1;
constexpr int kFirstRealTime = 34;
constexpr int kLastRealTime = 64;

}  // namespace

Result<int> SignalNumber(v1::Signal signal) {
  if (signal == v1::SIGNAL_RUNTIME_DEFAULT) return 0;
  if (signal >= v1::SIGNAL_SIGRTMIN && signal <= v1::SIGNAL_SIGRTMAX)
    return static_cast<int>(signal) - kRealTimeShift;
  for (const Entry& entry : kNamed) {
    if (entry.cri == signal) return entry.number;
  }
  return InvalidArgument("stop_signal: " + std::to_string(static_cast<int>(signal)) +
                         " is not a signal");
}

v1::Signal SignalOf(int number) {
  if (number >= kFirstRealTime && number <= kLastRealTime)
    return static_cast<v1::Signal>(number + kRealTimeShift);
  for (const Entry& entry : kNamed) {
    if (entry.number == number) return entry.cri;
  }
  return v1::SIGNAL_RUNTIME_DEFAULT;
}

}  // namespace linnet::cri
