// gRPC 1.51 lets the threads that wait for calls doze off: after a second without one, each sleeps
// for 100 ms, hears nothing meanwhile, and they do so in step
// (src/cpp/common/completion_queue_cc.cc, the "idle phase" of the callback API's queue). One call
// in ten after a pause was answered up to 100 ms late. The linker hands those sleeps to us
// (--wrap); longer ones, which nothing of gRPC's server does, sleep as before.
#include <grpc/support/time.h>

extern "C" {

void __real_gpr_sleep_until(
    gpr_timespec until);  // NOLINT(bugprone-reserved-identifier): the linker's name

void __wrap_gpr_sleep_until(
    gpr_timespec until);  // NOLINT(bugprone-reserved-identifier): the linker's name
void __wrap_gpr_sleep_until(gpr_timespec until) {
  constexpr int kIdlePhaseMs = 100;
  const gpr_timespec left = gpr_time_sub(until, gpr_now(until.clock_type));
  if (gpr_time_to_millis(left) > kIdlePhaseMs) __real_gpr_sleep_until(until);
}

}  // extern "C"
