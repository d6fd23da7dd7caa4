// linnet: pods and images on this machine.
#include <csignal>

#include "app.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // `linnet logs | head` ends by a failing write
  linnet::cli::App app;
  return app.Main(argc, argv);
}
