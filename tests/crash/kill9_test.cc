// kill -9 of the daemon at random moments, while clients run, use and remove pods. After each
// restart what the clients were told holds, everything can be removed, and in the end nothing is
// left.
//
// LINNET_CRASH_ROUNDS and LINNET_CRASH_SEED choose another length and another order.
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "linnetd.h"

namespace linnet::testing {
namespace {

namespace v1 = ::runtime::v1;
using std::chrono::milliseconds;
using std::chrono::seconds;

unsigned FromEnv(const char* name, unsigned fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

template <class Stub, class Request, class Response>
grpc::Status Do(Stub& stub,
                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                const Request& request, Response* response) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + seconds(30));
  return (stub.*method)(&context, request, response);
}

using Stub = v1::RuntimeService::Stub;

// What the daemon has told its clients.
struct Told {
  std::mutex mu;
  std::set<std::string> pods_running;        // RunPodSandbox returned, no removal was asked for
  std::set<std::string> containers_running;  // StartContainer returned, no stop was asked for
  std::size_t pods_made = 0;
};

v1::PodSandboxConfig PodConfig(const std::string& name, int host_port) {
  v1::PodSandboxConfig c;
  c.mutable_metadata()->set_name(name);
  c.mutable_metadata()->set_uid(name);
  c.mutable_metadata()->set_namespace_("crash");
  c.mutable_dns_config();
  if (host_port != 0) {
    c.add_port_mappings()->set_host_port(host_port);
    c.mutable_port_mappings(0)->set_container_port(80);
  }
  return c;
}

// One client: pods, one after another, until the daemon is gone.
class Client {
 public:
  Client(const Linnetd& daemon, Told& told, unsigned seed, std::string prefix, int host_port)
      : stub_(v1::RuntimeService::NewStub(daemon.Connect())),
        told_(told),
        random_(seed),
        prefix_(std::move(prefix)),
        host_port_(host_port) {}

  // False: the daemon is gone.
  bool OnePod(int number) {
    v1::RunPodSandboxRequest run;
    *run.mutable_config() =
        PodConfig(prefix_ + std::to_string(number), number % 2 == 0 ? host_port_ + number : 0);
    // Half of them with a pid namespace of the pod: that has a holder.
    if (Chance())
      run.mutable_config()
          ->mutable_linux()
          ->mutable_security_context()
          ->mutable_namespace_options()
          ->set_pid(v1::CONTAINER);
    v1::RunPodSandboxResponse ran;
    if (!Ok(Do(*stub_, &Stub::RunPodSandbox, run, &ran))) return false;
    const std::string pod = ran.pod_sandbox_id();
    {
      const std::lock_guard lock(told_.mu);
      told_.pods_running.insert(pod);
    }
    const auto pid_mode = run.config().linux().security_context().namespace_options().pid();
    v1::CreateContainerRequest create;
    create.set_pod_sandbox_id(pod);
    create.mutable_config()->mutable_metadata()->set_name("c");
    create.mutable_config()->mutable_image()->set_image(kImage);
    create.mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options()
        ->set_pid(pid_mode);
    for (const char* word : {"sleep", "1000"}) create.mutable_config()->add_command(word);
    v1::CreateContainerResponse created;
    if (!Ok(Do(*stub_, &Stub::CreateContainer, create, &created))) return false;
    v1::StartContainerRequest start;
    start.set_container_id(created.container_id());
    v1::StartContainerResponse started;
    if (!Ok(Do(*stub_, &Stub::StartContainer, start, &started))) return false;
    {
      const std::lock_guard lock(told_.mu);
      told_.containers_running.insert(created.container_id());
      ++told_.pods_made;
    }
    v1::ExecSyncRequest exec;
    exec.set_container_id(created.container_id());
    exec.add_cmd("true");
    v1::ExecSyncResponse output;
    if (!Ok(Do(*stub_, &Stub::ExecSync, exec, &output))) return false;
    if (Chance()) return true;  // this one stays
    {
      const std::lock_guard lock(told_.mu);
      told_.pods_running.erase(pod);
      told_.containers_running.erase(created.container_id());
    }
    v1::StopPodSandboxRequest stop;
    stop.set_pod_sandbox_id(pod);
    v1::StopPodSandboxResponse stopped;
    if (!Ok(Do(*stub_, &Stub::StopPodSandbox, stop, &stopped))) return false;
    v1::RemovePodSandboxRequest remove;
    remove.set_pod_sandbox_id(pod);
    v1::RemovePodSandboxResponse removed;
    return Ok(Do(*stub_, &Stub::RemovePodSandbox, remove, &removed));
  }

 private:
  bool Chance() { return std::uniform_int_distribution<int>(0, 1)(random_) == 1; }
  // Only the daemon's death excuses a failure.
  static bool Ok(const grpc::Status& status) {
    if (!status.ok() && status.error_code() != grpc::StatusCode::UNAVAILABLE) {
      ADD_FAILURE() << status.error_code() << ": " << status.error_message();
    }
    return status.ok();
  }

  std::unique_ptr<Stub> stub_;
  Told& told_;
  std::mt19937 random_;
  const std::string prefix_;
  const int host_port_;
};

class Kill9Test : public ::testing::Test {
 protected:
  // What was told holds, and names of pods that nobody was told about are free or removable.
  void CheckTold(Stub& stub, Told& told) {
    v1::ListPodSandboxResponse pods;
    ASSERT_TRUE(Do(stub, &Stub::ListPodSandbox, v1::ListPodSandboxRequest(), &pods).ok());
    std::map<std::string, v1::PodSandboxState> states;
    for (const auto& pod : pods.items()) states[pod.id()] = pod.state();
    for (const std::string& pod : told.pods_running) {
      ASSERT_TRUE(states.contains(pod)) << "pod " << pod << " is forgotten\n" << daemon_.Log();
      EXPECT_EQ(states[pod], v1::SANDBOX_READY) << pod << "\n" << daemon_.Log();
    }
    for (const std::string& container : told.containers_running) {
      v1::ContainerStatusRequest ask;
      ask.set_container_id(container);
      v1::ContainerStatusResponse answer;
      const grpc::Status status = Do(stub, &Stub::ContainerStatus, ask, &answer);
      ASSERT_TRUE(status.ok()) << status.error_message() << "\n" << daemon_.Log();
      EXPECT_EQ(answer.status().state(), v1::CONTAINER_RUNNING) << container << "\n"
                                                                << daemon_.Log();
      v1::ExecSyncRequest exec;
      exec.set_container_id(container);
      exec.add_cmd("true");
      v1::ExecSyncResponse output;
      const grpc::Status ran = Do(stub, &Stub::ExecSync, exec, &output);
      EXPECT_TRUE(ran.ok()) << ran.error_message();
    }
  }

  void RemoveAllPods(Stub& stub) {
    v1::ListPodSandboxResponse pods;
    ASSERT_TRUE(Do(stub, &Stub::ListPodSandbox, v1::ListPodSandboxRequest(), &pods).ok());
    for (const auto& pod : pods.items()) {
      v1::RemovePodSandboxRequest remove;
      remove.set_pod_sandbox_id(pod.id());
      v1::RemovePodSandboxResponse removed;
      const grpc::Status status = Do(stub, &Stub::RemovePodSandbox, remove, &removed);
      ASSERT_TRUE(status.ok()) << status.error_message() << "\n" << daemon_.Log();
    }
  }

  void ExpectNothingLeft(const std::string& before) {
    std::string after;
    const Deadline end = std::chrono::steady_clock::now() + seconds(15);
    do {
      after = LN_ASSERT_OK(Census());
    } while (after != before && std::chrono::steady_clock::now() < end);
    EXPECT_EQ(before, after) << daemon_.Log();
    EXPECT_TRUE((*ListDir(daemon_.root() + "/pods")).empty());
    for (const char* dir : {"/cni/results", "/cni/networks"}) {
      if (!Exists(daemon_.root() + dir)) continue;
      const RunResult found = LN_ASSERT_OK(RunProgram(
          "/usr/bin/find", {daemon_.root() + dir, "-type", "f", "!", "-name", "lock", "!", "-name",
                            "last_reserved_ip.*", "!", "-name", "subnets.json"}));
      EXPECT_EQ(found.out, "") << "address files or attachment records are left";
    }
  }

  TempDir dir_;
  Linnetd daemon_{{.directory = dir_.path()}};
};

TEST_F(Kill9Test, RandomMoments_NothingToldIsLostAndNothingIsLeft) {
  const unsigned rounds = FromEnv("LINNET_CRASH_ROUNDS", 20);
  const unsigned seed = FromEnv("LINNET_CRASH_SEED", std::random_device()());
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  LN_ASSERT_OK(daemon_.StartAndWait());
  LN_ASSERT_OK(ImportBusybox(daemon_, dir_ / "scratch"));
  {
    // Bridge, tables and groups exist from the first pod on.
    Told told;
    Client first(daemon_, told, seed, "first", 0);
    ASSERT_TRUE(first.OnePod(0)) << daemon_.Log();
    RemoveAllPods(*v1::RuntimeService::NewStub(daemon_.Connect()));
  }
  ::usleep(200'000);
  const std::string before = LN_ASSERT_OK(Census());

  std::size_t pods = 0, alive = 0;
  for (unsigned round = 0; round < rounds && !HasFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round) + ", seed " + std::to_string(seed));
    Told told;
    std::vector<std::thread> clients;
    for (int i = 0; i < 3; ++i) {
      clients.emplace_back([this, &told, i, round, client_seed = random()] {
        Client client(daemon_, told, static_cast<unsigned>(client_seed),
                      "r" + std::to_string(round) + "-" + std::to_string(i) + "-",
                      20000 + (static_cast<int>(round) * 3 + i) * 100);
        for (int number = 0; client.OnePod(number) && number < 99; ++number) {
        }
      });
    }
    const auto moment =
        std::chrono::microseconds(std::uniform_int_distribution<int>(0, 300'000)(random));
    std::this_thread::sleep_for(moment);
    daemon_.Kill9();
    for (std::thread& client : clients) client.join();
    // Sometimes the next one is killed while it recovers.
    if (round % 3 == 2) {
      LN_ASSERT_OK(daemon_.Start());
      std::this_thread::sleep_for(
          std::chrono::microseconds(std::uniform_int_distribution<int>(0, 30'000)(random)));
      daemon_.Kill9();
    }
    LN_ASSERT_OK(daemon_.StartAndWait());
    const auto stub = v1::RuntimeService::NewStub(daemon_.Connect());
    CheckTold(*stub, told);
    RemoveAllPods(*stub);
    ExpectNothingLeft(before);
    pods += told.pods_made;
    alive += told.containers_running.size();
  }
  std::printf("%u kills, %zu pods, %zu of them alive through a kill\n", rounds, pods, alive);
  EXPECT_GT(alive, 0U) << "nothing was tested";
}

// One daemon dies again and again; the other's pods do not notice.
TEST_F(Kill9Test, NeighbourDaemon_IsUntouched) {
  Linnetd neighbour({.directory = dir_ / "neighbour"});
  LN_ASSERT_OK(neighbour.StartAndWait());
  LN_ASSERT_OK(ImportBusybox(neighbour, dir_ / "scratch"));
  LN_ASSERT_OK(daemon_.StartAndWait());
  LN_ASSERT_OK(ImportBusybox(daemon_, dir_ / "scratch"));
  Told told;
  Client quiet(neighbour, told, 1, "quiet", 0);
  while (told.containers_running.empty())
    ASSERT_TRUE(quiet.OnePod(static_cast<int>(told.pods_made))) << neighbour.Log();
  for (int round = 0; round < 5; ++round) {
    Told lost;
    std::thread client([&] {
      Client busy(daemon_, lost, static_cast<unsigned>(round), "b" + std::to_string(round) + "-",
                  0);
      for (int number = 0; busy.OnePod(number); ++number) {
      }
    });
    std::this_thread::sleep_for(milliseconds(40));
    daemon_.Kill9();
    client.join();
    LN_ASSERT_OK(daemon_.StartAndWait());
  }
  RemoveAllPods(*v1::RuntimeService::NewStub(daemon_.Connect()));
  CheckTold(*v1::RuntimeService::NewStub(neighbour.Connect()), told);
  RemoveAllPods(*v1::RuntimeService::NewStub(neighbour.Connect()));
}

}  // namespace
}  // namespace linnet::testing
