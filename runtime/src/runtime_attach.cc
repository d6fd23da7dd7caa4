#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "runtime_impl.h"

namespace linnet::runtime {
namespace {

constexpr auto kAnswerTime = std::chrono::seconds(10);
// What a reader may be behind before it holds up the container. Memory is taken as it fills. At the
// end the keeper makes it four times as large, the most there is without CAP_SYS_RESOURCE.
constexpr int kPipeBytes = 256 << 10;

Result<UniqueFd> AddPipe(std::vector<UniqueFd>& far_ends) {
  std::array<int, 2> fds{};
  if (pipe2(fds.data(), O_CLOEXEC | O_NONBLOCK) != 0) return Error::FromErrno(errno, "pipe");
  far_ends.emplace_back(fds[1]);
  (void)fcntl(fds[0], F_SETPIPE_SZ, kPipeBytes);  // refused: the usual size
  return UniqueFd(fds[0]);
}

}  // namespace

Result<Attachment> RuntimeImpl::Attach(const PodId& pod_id, const ContainerId& id,
                                       const AttachSpec& spec) {
  const PodPtr pod = LN_TRY(Get(pod_id));
  Attachment out;
  std::vector<UniqueFd> far_ends;
  std::array<int, 2> control{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, control.data()) != 0) {
    return Error::FromErrno(errno, "socketpair");
  }
  out.control = UniqueFd(control[0]);
  far_ends.emplace_back(control[1]);
  if (spec.stdout_open) out.out = LN_TRY(AddPipe(far_ends));
  if (spec.stderr_open) out.err = LN_TRY(AddPipe(far_ends));

  keeper::Attach message;
  message.flags = (spec.stdin_open ? keeper::kAttachStdin : 0U) |
                  (spec.stdout_open ? keeper::kAttachStdout : 0U) |
                  (spec.stderr_open ? keeper::kAttachStderr : 0U);
  CopyId(message.id, id.str());
  Command command = MakeCommand(message);
  for (const UniqueFd& fd : far_ends) command.fds.push_back(fd);
  auto answer =
      pod->keeper->Call(std::move(command), std::chrono::steady_clock::now() + kAnswerTime);
  if (!answer && answer.error().IsErrno(ENOSYS)) {
    return Error(Code::kUnimplemented,
                 "the pod was started by a version of linnet that could not attach");
  }
  if (!answer) return std::move(answer).error();
  const auto attached = LN_TRY(answer->As<keeper::Attached>());
  out.terminal = attached.terminal != 0;
  out.input = std::move(answer->fd);
  return out;
}

}  // namespace linnet::runtime
