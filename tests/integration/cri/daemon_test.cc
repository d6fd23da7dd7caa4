// The real linnetd: options, start, second daemon, stop, socket activation, notification, kill -9
// with a pod.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "linnetd.h"

namespace linnet::testing {
namespace {

namespace v1 = ::runtime::v1;
using std::chrono::seconds;

template <class Stub, class Request, class Response>
grpc::Status Do(Stub& stub,
                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                const Request& request, Response* response) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + seconds(30));
  return (stub.*method)(&context, request, response);
}

class DaemonTest : public ::testing::Test {
 protected:
  TempDir dir_;
};

TEST_F(DaemonTest, VersionOption_PrintsAndEnds) {
  const RunResult r = LN_ASSERT_OK(RunProgram(BinDir() + "/linnetd", {"--version"}));
  EXPECT_EQ(r.status.code, 0);
  EXPECT_TRUE(r.out.starts_with("linnetd ")) << r.out;
}

TEST_F(DaemonTest, PrintConfig_ShowsValuesAndSources) {
  dir_.Write("linnet.toml", "[network]\nbridge = \"br9\"\n");
  const RunResult r = LN_ASSERT_OK(
      RunProgram(BinDir() + "/linnetd", {"--config", dir_ / "linnet.toml", "--root", dir_ / "root",
                                         "--state", dir_ / "state", "--print-config"}));
  EXPECT_EQ(r.status.code, 0) << r.err;
  EXPECT_NE(r.out.find("network.bridge = \"br9\""), std::string::npos) << r.out;
  EXPECT_NE(r.out.find(dir_ / "linnet.toml:2"), std::string::npos) << r.out;
  EXPECT_NE(r.out.find("--root"), std::string::npos) << r.out;
  EXPECT_FALSE(Exists(dir_ / "state")) << "showing makes nothing";
}

TEST_F(DaemonTest, BadConfiguration_EndsWithTheLine) {
  dir_.Write("linnet.toml", "[network]\nbrigde = \"br9\"\n");
  const RunResult r =
      LN_ASSERT_OK(RunProgram(BinDir() + "/linnetd", {"--config", dir_ / "linnet.toml"}));
  EXPECT_EQ(r.status.code, 1);
  EXPECT_NE(r.err.find(
                "linnet.toml:2: unknown key \"network.brigde\" (did you mean \"network.bridge\"?)"),
            std::string::npos)
      << r.err;
}

TEST_F(DaemonTest, Start_AnswersAndStopsOnSigterm) {
  Linnetd daemon({.directory = dir_.path()});
  LN_ASSERT_OK(daemon.StartAndWait());
  struct stat st {};
  ASSERT_EQ(::stat(daemon.socket().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777U, 0660U);
  const auto begin = std::chrono::steady_clock::now();
  const ExitStatus status = LN_ASSERT_OK(daemon.Stop());
  EXPECT_EQ(status.code, 0) << daemon.Log();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(2));
  EXPECT_FALSE(Exists(daemon.socket()));
}

TEST_F(DaemonTest, SecondDaemon_IsRefusedAndTheFirstGoesOn) {
  Linnetd first({.directory = dir_.path()});
  LN_ASSERT_OK(first.StartAndWait());
  const RunResult r = LN_ASSERT_OK(
      RunProgram(BinDir() + "/linnetd", {"--root", dir_ / "other", "--state", dir_ / "state"}));
  EXPECT_EQ(r.status.code, 1);
  EXPECT_NE(r.err.find("another linnetd (pid " + std::to_string(first.pid()) + ")"),
            std::string::npos)
      << r.err;
  const RunResult same_root = LN_ASSERT_OK(
      RunProgram(BinDir() + "/linnetd", {"--root", dir_ / "root", "--state", dir_ / "state2"}));
  EXPECT_EQ(same_root.status.code, 1);
  EXPECT_NE(same_root.err.find("another linnetd"), std::string::npos) << same_root.err;
  const auto stub = v1::RuntimeService::NewStub(first.Connect());
  v1::VersionResponse version;
  EXPECT_TRUE(Do(*stub, &v1::RuntimeService::Stub::Version, v1::VersionRequest(), &version).ok());
}

TEST_F(DaemonTest, TwoDaemons_LiveSideBySide) {
  Linnetd a({.directory = dir_ / "a"});
  Linnetd b({.directory = dir_ / "b"});
  LN_ASSERT_OK(a.StartAndWait());
  LN_ASSERT_OK(b.StartAndWait());
}

TEST_F(DaemonTest, KilledDaemon_LeavesASocketThatTheNextReplaces) {
  Linnetd daemon({.directory = dir_.path()});
  LN_ASSERT_OK(daemon.StartAndWait());
  daemon.Kill9();
  EXPECT_TRUE(Exists(daemon.socket()));
  LN_ASSERT_OK(daemon.StartAndWait());
}

TEST_F(DaemonTest, SocketActivation_ServesAndLeavesTheSocket) {
  dir_.Write("state/");
  const std::string path = dir_ / "state/linnet.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  // LISTEN_PID must be the daemon's own: a shell that becomes it knows.
  SpawnSpec spec;
  spec.path = "/bin/sh";
  spec.argv = {"sh", "-c",
               "LISTEN_PID=$$ LISTEN_FDS=1 exec " + BinDir() + "/linnetd --root " +
                   (dir_ / "root") + " --state " + (dir_ / "state")};
  spec.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  spec.fds = {{listener, 3}};
  Process process = LN_ASSERT_OK(Spawn(spec));
  const auto stub = v1::RuntimeService::NewStub(
      grpc::CreateChannel("unix://" + path, grpc::InsecureChannelCredentials()));
  v1::VersionResponse version;
  const grpc::Status status =
      Do(*stub, &v1::RuntimeService::Stub::Version, v1::VersionRequest(), &version);
  EXPECT_TRUE(status.ok()) << status.error_message();
  LN_EXPECT_OK(process.Signal(SIGTERM));
  const ExitStatus ended =
      LN_ASSERT_OK(process.Wait(std::chrono::steady_clock::now() + seconds(10)));
  EXPECT_EQ(ended.code, 0);
  EXPECT_TRUE(Exists(path));
}

TEST_F(DaemonTest, Systemd_IsToldReadyAndStopping) {
  const std::string path = dir_ / "notify.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const UniqueFd notify(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(notify.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const auto next = [&]() -> std::string {
    pollfd p{notify.get(), POLLIN, 0};
    if (::poll(&p, 1, 20'000) <= 0) return "(nothing)";
    char text[256];
    const ssize_t n = ::recv(notify.get(), text, sizeof text, 0);
    return n > 0 ? std::string(text, static_cast<std::size_t>(n)) : "(error)";
  };
  Linnetd daemon({.directory = dir_.path(), .env = {"NOTIFY_SOCKET=" + path}});
  LN_ASSERT_OK(daemon.Start());
  EXPECT_EQ(next(), "READY=1");
  LN_EXPECT_OK(daemon.process().Signal(SIGHUP));
  EXPECT_EQ(next(), "RELOADING=1");
  EXPECT_EQ(next(), "READY=1");
  LN_EXPECT_OK(daemon.Stop());
  EXPECT_EQ(next(), "STOPPING=1");
}

TEST_F(DaemonTest, PodAndContainer_OutliveKill9AndGoCleanly) {
  Linnetd daemon({.directory = dir_.path()});
  LN_ASSERT_OK(daemon.StartAndWait());
  LN_ASSERT_OK(ImportBusybox(daemon, dir_ / "scratch"));
  const std::string before = LN_ASSERT_OK(Census());
  std::string pod, container;
  {
    const auto stub = v1::RuntimeService::NewStub(daemon.Connect());
    v1::RunPodSandboxRequest run;
    run.mutable_config()->mutable_metadata()->set_name("p");
    run.mutable_config()->mutable_metadata()->set_uid("u");
    run.mutable_config()->mutable_metadata()->set_namespace_("n");
    run.mutable_config()->set_log_directory(dir_ / "logs");
    run.mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options()
        ->set_pid(v1::CONTAINER);
    v1::RunPodSandboxResponse ran;
    grpc::Status status = Do(*stub, &v1::RuntimeService::Stub::RunPodSandbox, run, &ran);
    ASSERT_TRUE(status.ok()) << status.error_message() << daemon.Log();
    pod = ran.pod_sandbox_id();
    v1::CreateContainerRequest create;
    create.set_pod_sandbox_id(pod);
    create.mutable_config()->mutable_metadata()->set_name("c");
    create.mutable_config()->mutable_image()->set_image(kImage);
    create.mutable_config()->set_log_path("c.log");
    create.mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options()
        ->set_pid(v1::CONTAINER);
    for (const char* word : {"sh", "-c", "while true; do echo tick; sleep 0.05; done"})
      create.mutable_config()->add_command(word);
    v1::CreateContainerResponse created;
    status = Do(*stub, &v1::RuntimeService::Stub::CreateContainer, create, &created);
    ASSERT_TRUE(status.ok()) << status.error_message() << daemon.Log();
    container = created.container_id();
    v1::StartContainerRequest start;
    start.set_container_id(container);
    v1::StartContainerResponse started;
    status = Do(*stub, &v1::RuntimeService::Stub::StartContainer, start, &started);
    ASSERT_TRUE(status.ok()) << status.error_message() << daemon.Log();
  }
  daemon.Kill9();
  const auto log_size = [&] { return ReadFile(dir_ / "logs/c.log").value_or("").size(); };
  const std::size_t size_at_kill = log_size();
  const Deadline deadline = std::chrono::steady_clock::now() + seconds(10);
  while (log_size() <= size_at_kill && std::chrono::steady_clock::now() < deadline)
    ::usleep(20'000);
  EXPECT_GT(log_size(), size_at_kill) << "the container writes on without the daemon";
  LN_ASSERT_OK(daemon.StartAndWait());
  const auto stub = v1::RuntimeService::NewStub(daemon.Connect());
  v1::ContainerStatusRequest ask;
  ask.set_container_id(container);
  v1::ContainerStatusResponse answer;
  grpc::Status status = Do(*stub, &v1::RuntimeService::Stub::ContainerStatus, ask, &answer);
  ASSERT_TRUE(status.ok()) << status.error_message() << daemon.Log();
  EXPECT_EQ(answer.status().state(), v1::CONTAINER_RUNNING);
  v1::ExecSyncRequest exec;
  exec.set_container_id(container);
  exec.add_cmd("echo");
  exec.add_cmd("hello");
  exec.set_timeout(10);
  v1::ExecSyncResponse output;
  status = Do(*stub, &v1::RuntimeService::Stub::ExecSync, exec, &output);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(output.stdout(), "hello\n");
  v1::StopPodSandboxRequest stop;
  stop.set_pod_sandbox_id(pod);
  v1::StopPodSandboxResponse stopped;
  status = Do(*stub, &v1::RuntimeService::Stub::StopPodSandbox, stop, &stopped);
  EXPECT_TRUE(status.ok()) << status.error_message();
  v1::RemovePodSandboxRequest remove;
  remove.set_pod_sandbox_id(pod);
  v1::RemovePodSandboxResponse removed;
  status = Do(*stub, &v1::RuntimeService::Stub::RemovePodSandbox, remove, &removed);
  EXPECT_TRUE(status.ok()) << status.error_message();
  std::string after;
  const Deadline clean = std::chrono::steady_clock::now() + seconds(10);
  do {
    after = LN_ASSERT_OK(Census());
  } while (after != before && std::chrono::steady_clock::now() < clean);
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace linnet::testing
