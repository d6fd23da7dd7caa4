// What the data path carries.
#pragma once

#include <string>
#include <vector>

#include "driver.h"

namespace linnet::bench {

struct Figure {
  std::string name, unit;
  double value = 0;
};

// Two pods and a station outside: TCP throughput between the pods, and from outside through a host
// port; connections per second through a host port while `others` more are mapped. `seconds` each.
Result<std::vector<Figure>> MeasureTraffic(Driver& driver, int others, int seconds);

}  // namespace linnet::bench
