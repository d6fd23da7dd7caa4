// Undo steps that run, last first, unless committed.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "linnet/base/result.h"

namespace linnet {

// Register a step before the act it undoes (a failed act may have half-happened). Each step must be
// idempotent, bounded in time, and name only things that belong to this operation alone.
// Thread-compatible.
class Rollback {
 public:
  // Called for each step that fails, with what it was for.
  using OnFailure = std::function<void(const std::string& what, const Error& error)>;
  explicit Rollback(OnFailure on_failure = {}) : on_failure_(std::move(on_failure)) {}
  Rollback(const Rollback&) = delete;
  Rollback& operator=(const Rollback&) = delete;
  ~Rollback() { Run(); }
  void Add(std::string what, std::function<Result<void>()> step) {
    steps_.push_back({std::move(what), std::move(step)});
  }
  // Nothing will be undone any more.
  void Commit() { steps_.clear(); }
  // Undoes now.
  void Run();

 private:
  struct Step {
    std::string what;
    std::function<Result<void>()> undo;
  };
  OnFailure on_failure_;
  std::vector<Step> steps_;
};

}  // namespace linnet
