#include "engine/gate.h"

namespace linnet::network {

bool OperationGate::WaitOnce(Deadline deadline) {
  if (deadline == Deadline::max()) {
    changed_.Wait(mu_);
    return true;
  }
  return changed_.WaitUntil(mu_, deadline) == std::cv_status::no_timeout;
}

Result<OperationGate::Ticket> OperationGate::Enter(const std::string& key, Deadline deadline) {
  MutexLock lock(mu_);
  while (exclusive_ || exclusive_waiting_ > 0 || busy_.contains(key)) {
    if (!WaitOnce(deadline)) {
      return Error(Code::kDeadlineExceeded,
                   "another network operation of " + key + " is still under way");
    }
  }
  busy_.insert(key);
  return Ticket(this, key);
}

Result<OperationGate::Ticket> OperationGate::EnterExclusive(Deadline deadline) {
  MutexLock lock(mu_);
  ++exclusive_waiting_;
  while (exclusive_ || !busy_.empty()) {
    if (WaitOnce(deadline)) continue;
    --exclusive_waiting_;
    changed_.NotifyAll();
    return Error(Code::kDeadlineExceeded, "network operations are still under way");
  }
  --exclusive_waiting_;
  exclusive_ = true;
  return Ticket(this, {});
}

void OperationGate::Leave(const std::string& key) {
  MutexLock lock(mu_);
  if (key.empty()) {
    exclusive_ = false;
  } else {
    busy_.erase(key);
  }
  changed_.NotifyAll();
}

}  // namespace linnet::network
