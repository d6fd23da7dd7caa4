// A step of the kernel or the file system that fails, or at which the process dies: for tests that
// ask what is left behind.
//
// The seam is the linker's: the test's executable is linked with --wrap for the system calls below
// (see `linnet_wrap_faults` in CMakeLists.txt), so the product knows nothing of it. Steps are
// counted on the thread that arms, and on threads that enter a namespace for it.
#pragma once

#include <cstdint>
#include <string>

namespace linnet::testing {

enum class Fault : std::uint8_t {
  kNone,        // steps are only counted
  kFailBefore,  // the step is not carried out and fails
  kFailAfter,   // the step is carried out, and said to have failed
  kDieBefore,   // SIGKILL in the place of the step
};

// Steps are counted from here on; number `at` (from 1) has the fault. One at a time.
void ArmFault(Fault fault, int at);
// How many steps were seen. Nothing fails any more.
int DisarmFault();
// "14: sendto nftables": the step that had the fault; empty: it was not reached.
std::string FaultStep();

}  // namespace linnet::testing
