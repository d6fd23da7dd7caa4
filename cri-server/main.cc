// linnetd.
#include <cstdio>

#include "linnet/base/log.h"

#include "config/config.h"
#include "daemon/daemon.h"
#include "daemon/options.h"

namespace {

int Fail(const linnet::Error& error) {
  std::fprintf(stderr, "linnetd: %s\n", error.message().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace linnet::cri;  // NOLINT(google-build-using-namespace): main has no namespace of
                                // its own
  PrepareProcess();
  const ParsedOptions parsed = ParseOptions(argc, argv);
  if (parsed.exit) {
    std::fputs(parsed.exit->text.c_str(), parsed.exit->code == 0 ? stdout : stderr);
    return parsed.exit->code;
  }
  const ConfigSources sources{.file = parsed.options.config_file,
                              .env = LinnetEnvironment(),
                              .options = parsed.options.settings};
  const auto loaded = LoadConfig(sources);
  if (!loaded) return Fail(loaded.error());
  if (parsed.options.print_config) {
    std::fputs(PrintConfig(*loaded).c_str(), stdout);
    return 0;
  }
  const auto log_options = LogOptions(loaded->config.log);
  if (!log_options) return Fail(log_options.error());
  if (auto init = linnet::log::Init(*log_options); !init) return Fail(init.error());
  const auto done = RunDaemon(sources, *loaded);
  if (!done) {
    linnet::log::Err("ends", {{"err", done.error()}});
    if (!loaded->config.log.file.empty()) (void)Fail(done.error());
    return 1;
  }
  return 0;
}
