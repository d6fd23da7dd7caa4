// Names for pods whose owner did not choose one.
#pragma once

#include <string>

namespace linnet::cli {

// "brisk-wren-3f": lower case, a valid host name.
std::string RandomName();

}  // namespace linnet::cli
