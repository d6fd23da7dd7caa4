#include "linnet/base/rollback.h"

namespace linnet {

void Rollback::Run() {
  std::vector<Step> steps = std::move(steps_);
  steps_.clear();
  for (auto it = steps.rbegin(); it != steps.rend(); ++it) {
    const Result<void> undone = it->undo();
    if (!undone && on_failure_) on_failure_(it->what, undone.error());
  }
}

}  // namespace linnet
