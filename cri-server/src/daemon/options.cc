#include "options.h"

#include <CLI/CLI.hpp>

namespace linnet::cri {

ParsedOptions ParseOptions(int argc, const char* const* argv) {
  ParsedOptions out;
  Options& options = out.options;
  CLI::App app(
      "The daemon of linnet: a container runtime for Kubernetes (CRI v1) and for single machines.",
      "linnetd");
  app.footer(
      "Every option may be absent; /etc/linnet/linnet.toml may be, too. --print-config shows what "
      "is in force and where\n"
      "it came from. Several daemons run side by side with values of --root and --state of their "
      "own.");
  app.set_version_flag("--version", std::string("linnetd ") + LINNET_VERSION);
  app.add_option("--config", options.config_file,
                 "configuration (default: /etc/linnet/linnet.toml, if there is one)")
      ->type_name("FILE");
  const auto setting = [&](const char* flag, const char* key, const char* about, const char* type) {
    app.add_option_function<std::string>(
           flag, [&options, key](const std::string& value) { options.settings[key] = value; },
           about)
        ->type_name(type);
  };
  setting("--root", "root", "images and pods (default: /var/lib/linnet)", "DIR");
  setting("--state", "state", "what a boot forgets: sockets, locks (default: /run/linnet)", "DIR");
  setting("--socket", "socket", "where CRI is served (default: linnet.sock in --state)", "PATH");
  setting("--log-level", "log.level", "debug, info, warn or error (default: info)", "LEVEL");
  setting("--log-format", "log.format", "logfmt or json (default: logfmt)", "FORMAT");
  setting("--log-file", "log.file", "append to this file (default: standard error)", "FILE");
  app.add_flag("--print-config", options.print_config,
               "show every setting with value, source and default, and exit");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help, --version
    std::ostringstream text;
    app.exit(e, text, text);
    out.exit = {.text = text.str(), .code = 0};
  } catch (const CLI::ParseError& e) {
    out.exit = {
        .text = std::string("linnetd: ") + e.what() + " (linnetd --help shows all options)\n",
        .code = 2};
  }
  return out;
}

}  // namespace linnet::cri
