#include "traffic.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "linnet/base/json_view.h"
#include "linnet/base/spawn.h"

#include "netns.h"
#include "pods.h"

namespace linnet::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint16_t kThroughputPort = 15201, kConnectPort = 15080, kFirstOther = 20000;

Result<void> Shell(const std::string& command) {
  if (std::system(command.c_str()) != 0) return Internal("failed: " + command);
  return Ok();
}

SpawnSpec InNamespace(const std::string& name, std::vector<std::string> command) {
  SpawnSpec spec;
  spec.path = "/usr/sbin/ip";
  spec.argv = {"ip", "netns", "exec", name};
  spec.argv.insert(spec.argv.end(), command.begin(), command.end());
  spec.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  spec.new_process_group = true;
  return spec;
}

sockaddr_in AddressOf(const std::string& ip, std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  ::inet_pton(AF_INET, ip.c_str(), &out.sin_addr);
  return out;
}

bool Connects(const std::string& ip, std::uint16_t port) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in to = AddressOf(ip, port);
  const linger reset{.l_onoff = 1, .l_linger = 0};  // no TIME_WAIT: ports would run out
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0;
}

// Bits per second, from an iperf3 client in `from`.
Result<double> Throughput(const std::string& from, const std::string& ip, std::uint16_t port,
                          int seconds) {
  const auto limit = Clock::now() + std::chrono::seconds(seconds + 20);
  const RunResult run =
      LN_TRY(Run(InNamespace(from, {"iperf3", "-J", "-c", ip, "-p", std::to_string(port), "-t",
                                    std::to_string(seconds)}),
                 "", limit));
  const Json json = LN_TRY(ParseJson(run.out));
  if (run.status.code != 0) return Internal("iperf3: " + json.value("error", run.err));
  return json["end"]["sum_received"]["bits_per_second"].get<double>();
}

// A server that accepts and closes, in a pod.
class Acceptor {
 public:
  static Result<std::unique_ptr<Acceptor>> Start(FdRef netns, std::uint16_t port) {
    auto out = std::unique_ptr<Acceptor>(new Acceptor);
    LN_TRY(network::VisitNetns(netns, [&]() -> Result<void> {
      out->socket_.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const sockaddr_in at = AddressOf("0.0.0.0", port);
      if (::bind(out->socket_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) < 0 ||
          ::listen(out->socket_.get(), 4096) < 0)
        return Error::FromErrno(errno, "listen in the pod");
      return Ok();
    }));
    out->thread_ =
        std::jthread([raw = out.get()](const std::stop_token& stop) { raw->Loop(stop); });
    return out;
  }

 private:
  void Loop(const std::stop_token& stop) const {
    while (!stop.stop_requested()) {
      pollfd p{.fd = socket_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&p, 1, 50) != 1) continue;
      const UniqueFd client(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
  }
  UniqueFd socket_;
  std::jthread thread_;
};

Result<double> ConnectionRate(FdRef from, const std::string& ip, std::uint16_t port, int seconds) {
  std::atomic<long> count = 0;
  std::atomic<long> failed = 0;
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::seconds(seconds);
  const auto loop = [&]() -> Result<void> {
    while (Clock::now() < end) ++(Connects(ip, port) ? count : failed);
    return Ok();
  };
  {
    std::jthread second([&] { (void)network::VisitNetns(from, loop); });
    LN_TRY(network::VisitNetns(from, loop));
  }
  if (failed > count / 100) return Internal(std::to_string(failed) + " connections failed");
  return static_cast<double>(count) / std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

Result<std::vector<Figure>> MeasureTraffic(Driver& driver, int others, int seconds) {
  const PodNamespace outside = LN_TRY(PodNamespace::Make("outside"));
  LN_TRY(
      Shell("ip link add outside0 type veth peer name eth0 netns outside && "
            "ip addr add 198.51.100.1/24 dev outside0 && ip link set outside0 up && "
            "ip -n outside addr add 198.51.100.2/24 dev eth0 && ip -n outside link set eth0 up && "
            "ip -n outside route add default via 198.51.100.1"));
  const PodNamespace a = LN_TRY(PodNamespace::Make("traffic-a"));
  const PodNamespace b = LN_TRY(PodNamespace::Make("traffic-b"));
  const PodNamespace c = LN_TRY(PodNamespace::Make("traffic-c"));
  std::vector<HostPortSpec> many;
  for (int i = 0; i < others; ++i)
    many.push_back({static_cast<std::uint16_t>(kFirstOther + i), 80});
  const std::vector<HostPortSpec> measured = {{kThroughputPort, 5201}, {kConnectPort, 8080}};
  const std::string server = LN_TRY(driver.Add(a.Spec(measured)));
  LN_TRY(driver.Add(b.Spec({})));
  if (others > 0) LN_TRY(driver.Add(c.Spec(many)));

  std::vector<Figure> out;
  {
    const Process iperf = LN_TRY(Spawn(InNamespace("traffic-a", {"iperf3", "-s"})));
    const auto limit = Clock::now() + std::chrono::seconds(5);
    bool up = false;
    while (!up && Clock::now() < limit) {
      LN_TRY(network::VisitNetns(b.fd(), [&]() -> Result<void> {
        up = Connects(server, 5201);
        return Ok();
      }));
      if (!up) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    out.push_back({"throughput pod to pod", "Gbit/s",
                   LN_TRY(Throughput("traffic-b", server, 5201, seconds)) / 1e9});
    out.push_back({"throughput through a host port", "Gbit/s",
                   LN_TRY(Throughput("outside", "198.51.100.1", kThroughputPort, seconds)) / 1e9});
  }
  {
    const auto acceptor = LN_TRY(Acceptor::Start(a.fd(), 8080));
    out.push_back({"connections through a host port, " + std::to_string(others) + " others mapped",
                   "1/s",
                   LN_TRY(ConnectionRate(outside.fd(), "198.51.100.1", kConnectPort, seconds))});
  }
  LN_TRY(driver.Del(a.Spec(measured)));
  LN_TRY(driver.Del(b.Spec({})));
  if (others > 0) LN_TRY(driver.Del(c.Spec(many)));
  return out;
}

}  // namespace linnet::bench
