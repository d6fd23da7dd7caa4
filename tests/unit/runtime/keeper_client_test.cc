// KeeperClient against a keeper that the test plays.
#include "client/keeper_client.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <future>
#include <vector>

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet::runtime {
namespace {

using keeper::Type;
using std::chrono::milliseconds;
using std::chrono::seconds;

Deadline In(milliseconds time) { return std::chrono::steady_clock::now() + time; }

struct Pair {
  UniqueFd client, keeper;
};
Pair MakePair() {
  std::array<int, 2> fds{};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// What a command was, with all of its descriptors counted.
struct Heard {
  keeper::MessageHeader header;
  std::uint32_t fds = 0;
  int messages = 0;
};

// The other end. Blocks.
class FakeKeeper {
 public:
  explicit FakeKeeper(UniqueFd socket) : socket_(std::move(socket)) {}

  Heard Read() {
    Heard out;
    do {
      alignas(8) char bytes[keeper::kMaxMessage];
      alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * keeper::kMaxFdsPerMessage)>
          control{};
      iovec data{.iov_base = bytes, .iov_len = sizeof bytes};
      msghdr message{};
      message.msg_iov = &data;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      EXPECT_GE(recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC),
                static_cast<ssize_t>(sizeof out.header));
      std::memcpy(&out.header, bytes, sizeof out.header);
      ++out.messages;
      for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
        const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) close(reinterpret_cast<int*>(CMSG_DATA(c))[i]);
        out.fds += static_cast<std::uint32_t>(count);
      }
    } while (out.header.type == Type::kMoreFds);
    return out;
  }
  template <class Message>
  void Say(Message message, std::uint64_t command) {
    message.header.command = command;
    EXPECT_EQ(send(socket_.get(), &message, sizeof message, MSG_NOSIGNAL),
              static_cast<ssize_t>(sizeof message));
  }
  // With descriptors, more than anyone asked for.
  void SayWithFds(keeper::Namespace message, std::uint64_t command, int count) {
    message.header.command = command;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 4)> control{};
    iovec data{.iov_base = &message, .iov_len = sizeof message};
    msghdr out{};
    out.msg_iov = &data;
    out.msg_iovlen = 1;
    out.msg_control = control.data();
    out.msg_controllen = CMSG_SPACE(sizeof(int) * static_cast<std::size_t>(count));
    cmsghdr* c = CMSG_FIRSTHDR(&out);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) reinterpret_cast<int*>(CMSG_DATA(c))[i] = 0;
    EXPECT_GT(sendmsg(socket_.get(), &out, MSG_NOSIGNAL), 0);
  }
  void SayState(std::uint64_t command, const std::string& id, keeper::State state, int code = 0) {
    keeper::ContainerState message;
    message.state = state;
    message.pid = 77;
    message.exit.code = code;
    message.exit.started_at = 5;
    CopyId(message.id, id);
    Say(message, command);
  }
  void SayExited(const std::string& id, int code) {
    keeper::ContainerExited message;
    message.exit.code = code;
    CopyId(message.id, id);
    Say(message, 0);
  }
  void HangUp() { socket_.Reset(); }

 private:
  UniqueFd socket_;
};

class KeeperClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    loop_ = LN_ASSERT_OK(EventLoop::Create());
    process_ = fork();
    if (process_ == 0) {
      for (;;) pause();
    }
    Pair pair = MakePair();
    fake_ = std::make_unique<FakeKeeper>(std::move(pair.keeper));
    client_ = std::make_shared<KeeperClient>(
        std::move(pair.client), *loop_,
        KeeperClient::Callbacks{.on_exit = [this](const ContainerExit& e) { exits_.set_value(e); },
                                .on_lost = [this] { lost_.set_value(); }},
        [this]() -> Result<UniqueFd> {
          if (reconnected_.exchange(true)) return NotFound("once is enough");
          Pair again = MakePair();
          again_.set_value(std::move(again.keeper));
          return std::move(again.client);
        });
    LN_EXPECT_OK(client_->Watch(UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, process_, 0)))));
    EXPECT_TRUE(client_->Publish());
  }
  void TearDown() override {
    client_.reset();
    loop_.reset();
    (void)kill(process_, SIGKILL);
    (void)waitpid(process_, nullptr, 0);  // the client may have reaped it
  }
  void Greet(const std::vector<std::string>& running) {
    auto greeting = std::async(std::launch::async, [&] { return client_->Greet(In(seconds(5))); });
    AnswerHello(*fake_, running);
    LN_EXPECT_OK(greeting.get());
  }
  static void AnswerHello(FakeKeeper& fake, const std::vector<std::string>& running) {
    const Heard hello = fake.Read();
    EXPECT_EQ(hello.header.type, Type::kHello);
    keeper::HelloAnswer answer;
    answer.container_count = static_cast<std::uint32_t>(running.size());
    answer.pod_is_set_up = 1;
    fake.Say(answer, hello.header.command);
    for (const std::string& id : running)
      fake.SayState(hello.header.command, id, keeper::State::kRunning);
  }
  Result<KeeperClient::Number> SendSignal() {
    return client_->Send(MakeCommand(keeper::Signal{}), In(seconds(1)));
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<FakeKeeper> fake_;
  std::shared_ptr<KeeperClient> client_;
  pid_t process_ = -1;
  std::promise<ContainerExit> exits_;
  std::promise<void> lost_;
  std::promise<UniqueFd> again_;
  std::atomic<bool> reconnected_ = false;
};

const ContainerId kA = *ContainerId::Parse("a");
const ContainerId kB = *ContainerId::Parse("b");

TEST_F(KeeperClientTest, Answers_OutOfOrder_FindTheirCommand) {
  const auto first = LN_ASSERT_OK(SendSignal());
  const auto second = LN_ASSERT_OK(SendSignal());
  EXPECT_NE(first, second);
  EXPECT_EQ(fake_->Read().header.command, first);
  EXPECT_EQ(fake_->Read().header.command, second);
  fake_->Say(keeper::Done{}, second);
  keeper::Failed failed;
  failed.stage = keeper::Stage::kUnknownContainer;
  failed.error = ENOENT;
  fake_->Say(failed, first);
  LN_EXPECT_ERROR(client_->Wait(first, In(seconds(5))), Code::kNotFound, "");
  LN_EXPECT_OK(client_->Wait(second, In(seconds(5))));
}

TEST_F(KeeperClientTest, Answer_TooLate_IsIgnored) {
  const auto number = LN_ASSERT_OK(SendSignal());
  LN_EXPECT_ERROR(client_->Wait(number, In(milliseconds(10))), Code::kDeadlineExceeded, "");
  fake_->Say(keeper::Done{}, number);
  const auto next = LN_ASSERT_OK(SendSignal());
  fake_->Say(keeper::Done{}, next);
  LN_EXPECT_OK(client_->Wait(next, In(seconds(5))));
}

TEST_F(KeeperClientTest, Descriptors_GoInSeveralMessages) {
  Command command = MakeCommand(keeper::Signal{});
  command.fds.assign(600, FdRef(0));
  LN_EXPECT_OK(client_->Send(std::move(command), In(seconds(1))));
  const Heard heard = fake_->Read();
  EXPECT_EQ(heard.fds, 600U);
  EXPECT_EQ(heard.header.fd_count, 600U);
  EXPECT_EQ(heard.messages, 3);
  Command many = MakeCommand(keeper::Signal{});
  many.fds.assign(keeper::kMaxFds + 1, FdRef(0));
  LN_EXPECT_ERROR(client_->Send(std::move(many), In(seconds(1))), Code::kResourceExhausted,
                  "descriptors");
}

TEST_F(KeeperClientTest, Descriptors_ThatNobodyAskedFor_AreClosed) {
  const auto count = [] { return ListDir("/proc/self/fd")->size(); };
  const auto number = LN_ASSERT_OK(SendSignal());
  (void)fake_->Read();
  const std::size_t before = count();
  fake_->SayWithFds({}, number, 3);
  auto answer = LN_ASSERT_OK(client_->Wait(number, In(seconds(5))));
  EXPECT_TRUE(answer.fd.valid());
  EXPECT_EQ(count(), before + 1);
  fake_->SayWithFds({}, number, 2);  // the answer to nothing
  const auto next = LN_ASSERT_OK(SendSignal());
  fake_->Say(keeper::Done{}, next);
  LN_EXPECT_OK(client_->Wait(next, In(seconds(5))));
  EXPECT_EQ(count(), before + 1);
}

TEST_F(KeeperClientTest, Exit_IsKeptAndReported) {
  Greet({"a", "b"});
  EXPECT_TRUE(client_->pod_is_set_up());
  EXPECT_EQ(client_->Containers().size(), 2U);
  EXPECT_EQ(client_->Find(kA)->pid, 77);
  auto waiting =
      std::async(std::launch::async, [&] { return client_->WaitExit(kA, In(seconds(5))); });
  fake_->SayExited("a", 9);
  EXPECT_EQ(LN_ASSERT_OK(waiting.get()).exit_code, 9);
  EXPECT_EQ(exits_.get_future().get().id, kA);
  LN_EXPECT_ERROR(client_->WaitExit(kB, In(milliseconds(10))), Code::kDeadlineExceeded, "");
  client_->Forget(kA);
  LN_EXPECT_ERROR(client_->WaitExit(kA, In(seconds(1))), Code::kNotFound, "");
}

TEST_F(KeeperClientTest, Started_ThenExited_StaysExited) {
  Command start = MakeCommand(keeper::StartContainer{});
  const auto number = LN_ASSERT_OK(client_->Send(std::move(start), In(seconds(1)), kA));
  keeper::Started started;
  started.pid = 5;
  fake_->Say(started, number);
  fake_->SayExited("a", 1);
  LN_EXPECT_OK(client_->Wait(number, In(seconds(5))));
  EXPECT_EQ(LN_ASSERT_OK(client_->WaitExit(kA, In(seconds(5)))).exit_code, 1);
  EXPECT_EQ(client_->Find(kA)->state, ContainerState::kExited);
}

TEST_F(KeeperClientTest, ConnectionBreaks_IsMadeAgainAndCatchesUp) {
  Greet({"a", "b"});
  const auto number = LN_ASSERT_OK(SendSignal());
  fake_->HangUp();
  LN_EXPECT_ERROR(client_->Wait(number, In(seconds(5))), Code::kUnavailable, "");
  FakeKeeper next(again_.get_future().get());
  const Heard hello = next.Read();
  EXPECT_EQ(hello.header.type, Type::kHello);
  keeper::HelloAnswer answer;
  answer.container_count = 1;
  next.Say(answer, hello.header.command);
  next.SayState(hello.header.command, "a", keeper::State::kExited,
                4);  // meanwhile; b was forgotten by the keeper
  EXPECT_EQ(exits_.get_future().get().exit_code, 4);
  LN_EXPECT_ERROR(client_->WaitExit(kB, In(seconds(5))), Code::kNotFound, "");
  const auto again = LN_ASSERT_OK(SendSignal());
  EXPECT_EQ(next.Read().header.command, again);
  next.Say(keeper::Done{}, again);
  LN_EXPECT_OK(client_->Wait(again, In(seconds(5))));
  EXPECT_FALSE(client_->lost());
}

TEST_F(KeeperClientTest, Death_EndsEveryWait) {
  Greet({"a"});
  const auto number = LN_ASSERT_OK(SendSignal());
  auto waiting =
      std::async(std::launch::async, [&] { return client_->WaitExit(kA, In(seconds(5))); });
  ASSERT_EQ(kill(process_, SIGKILL), 0);
  LN_EXPECT_ERROR(client_->Wait(number, In(seconds(5))), Code::kUnavailable, "");
  LN_EXPECT_ERROR(waiting.get(), Code::kNotFound, "lost");
  EXPECT_EQ(lost_.get_future().wait_for(seconds(5)), std::future_status::ready);
  LN_EXPECT_ERROR(SendSignal(), Code::kUnavailable, "");
}

TEST_F(KeeperClientTest, Death_Expected_IsNotReported) {
  client_->ExpectEnd();
  fake_->SayExited("a", 3);  // its last words
  ASSERT_EQ(kill(process_, SIGKILL), 0);
  LN_EXPECT_OK(client_->WaitEnd(In(seconds(5))));
  EXPECT_EQ(LN_ASSERT_OK(client_->WaitExit(kA, In(seconds(1)))).exit_code, 3);
  EXPECT_EQ(lost_.get_future().wait_for(milliseconds(50)), std::future_status::timeout);
}

TEST_F(KeeperClientTest, Exec_ExitWakesAndIsTaken) {
  const auto number =
      LN_ASSERT_OK(client_->SendExec(MakeCommand(keeper::Exec{}), FdRef(-1), In(seconds(1))));
  fake_->Say(keeper::Started{}, number);
  LN_EXPECT_OK(client_->Wait(number, In(seconds(5))));
  EXPECT_FALSE(LN_ASSERT_OK(client_->TakeExecExit(number)));
  keeper::ExecExited exited;
  exited.code = 12;
  exited.timed_out = 1;
  fake_->Say(exited, number);
  const auto exit = LN_ASSERT_OK(client_->WaitExecExit(number, In(seconds(5))));
  EXPECT_EQ(exit.code, 12);
  EXPECT_TRUE(exit.timed_out);
  client_->ForgetExec(number);
  fake_->Say(exited, number);  // ignored
}

TEST_F(KeeperClientTest, Garbage_IsIgnored) {
  const auto number = LN_ASSERT_OK(SendSignal());
  keeper::ContainerExited unnamed;  // no id
  fake_->Say(unnamed, 0);
  keeper::MessageHeader header{.type = static_cast<Type>(999), .command = 0};
  struct Bare {
    keeper::MessageHeader header;
  };
  fake_->Say(Bare{header}, 12345);
  fake_->Say(Bare{{.type = Type::kContainerExited}}, 0);  // too short
  fake_->Say(keeper::Done{}, number);
  LN_EXPECT_OK(client_->Wait(number, In(seconds(5))));
}

}  // namespace
}  // namespace linnet::runtime
