#include "names.h"

#include <array>
#include <random>

#include "linnet/base/ids.h"

namespace linnet::cli {

std::string RandomName() {
  static constexpr std::array kManners = {"brisk", "calm",   "clear", "deft",  "eager", "early",
                                          "fleet", "fond",   "keen",  "light", "merry", "neat",
                                          "plain", "quick",  "quiet", "spry",  "still", "swift",
                                          "tame",  "trusty", "warm",  "wild",  "wise",  "young"};
  static constexpr std::array kBirds = {
      "avocet",  "bunting", "crane",  "dipper", "dunlin", "finch",  "heron",    "jay",
      "kestrel", "lark",    "martin", "osprey", "pipit",  "plover", "redpoll",  "robin",
      "siskin",  "snipe",   "stork",  "swift",  "tern",   "thrush", "whinchat", "wren"};
  std::random_device random;
  const auto pick = [&random](const auto& list) {
    return std::string(
        list[std::uniform_int_distribution<std::size_t>(0, list.size() - 1)(random)]);
  };
  return pick(kManners) + "-" + pick(kBirds) + "-" + RandomHex(1);
}

}  // namespace linnet::cli
