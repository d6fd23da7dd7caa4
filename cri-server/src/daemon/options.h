// The command line of linnetd.
#pragma once

#include <map>
#include <string>

#include "linnet/base/result.h"

namespace linnet::cri {

struct Options {
  std::string config_file;
  std::map<std::string, std::string> settings;  // key of the configuration → value
  bool print_config = false;
  // --help, --version, or a mistake: the text and the exit code; nothing else is to be done.
  struct Exit {
    std::string text;
    int code = 0;
  };
};

// Errors never: a mistake is an Exit with code 2.
struct ParsedOptions {
  Options options;
  std::optional<Options::Exit> exit;
};
ParsedOptions ParseOptions(int argc, const char* const* argv);

}  // namespace linnet::cri
