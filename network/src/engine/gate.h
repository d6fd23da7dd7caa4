// Who may work when: operations of one container one after another, of different ones side by side;
// an exclusive operation (GC, recovery) alone.
#pragma once

#include <cstddef>
#include <set>
#include <string>

#include "linnet/base/clock.h"
#include "linnet/base/mutex.h"
#include "linnet/base/result.h"

namespace linnet::network {

// Thread-safe. Fair to exclusive operations: once one waits, no other operation starts.
class OperationGate {
 public:
  // Held for the length of an operation.
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept
        : gate_(std::exchange(other.gate_, nullptr)), key_(std::move(other.key_)) {}
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket() {
      if (gate_ != nullptr) gate_->Leave(key_);
    }

   private:
    friend class OperationGate;
    Ticket(OperationGate* gate, std::string key) : gate_(gate), key_(std::move(key)) {}
    OperationGate* gate_;
    std::string key_;  // empty: exclusive
  };

  // `key` is not empty. Errors: kDeadlineExceeded.
  Result<Ticket> Enter(const std::string& key, Deadline deadline);
  Result<Ticket> EnterExclusive(Deadline deadline);

 private:
  void Leave(const std::string& key);
  // False: the deadline passed.
  bool WaitOnce(Deadline deadline) LN_REQUIRES(mu_);

  Mutex mu_;
  CondVar changed_;
  std::set<std::string> busy_ LN_GUARDED_BY(mu_);
  bool exclusive_ LN_GUARDED_BY(mu_) = false;
  std::size_t exclusive_waiting_ LN_GUARDED_BY(mu_) = 0;
};

}  // namespace linnet::network
