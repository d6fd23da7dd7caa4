// CRI's signals have numbers of their own.
#pragma once

#include "linnet/base/result.h"

#include "cri.pb.h"

namespace linnet::cri {

// SIGNAL_RUNTIME_DEFAULT → 0. Errors: kInvalidArgument for a number that the interface does not
// know.
Result<int> SignalNumber(::runtime::v1::Signal signal);
// A number without a name (none on Linux) → SIGNAL_RUNTIME_DEFAULT.
::runtime::v1::Signal SignalOf(int number);

}  // namespace linnet::cri
