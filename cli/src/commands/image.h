// The parts of `linnet image`.
#pragma once

#include "app.h"

namespace linnet::cli {

void AddImageArchives(App& app, CLI::App& image);  // import, load, save

}  // namespace linnet::cli
