// network, ipam, cni, doctor: what the network holds, and whether it is well.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <map>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "app.h"
#include "format.h"
#include "lookup.h"

namespace linnet::cli {
namespace {

// id → name, of the pods that the daemon knows.
Result<std::map<std::string, std::string>> PodNames(Client& client) {
  cri::ListPodSandboxRequest request;
  const auto list =
      LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::ListPodSandbox, request));
  std::map<std::string, std::string> out;
  for (const auto& pod : list.items()) out[pod.id()] = pod.metadata().name();
  return out;
}

std::string NameIn(const std::map<std::string, std::string>& names, const std::string& id) {
  const auto it = names.find(id);
  return it == names.end() ? ShortId(id) : it->second;
}

std::string Joined(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  return texts.empty() ? "-" : Join(std::vector<std::string>(texts.begin(), texts.end()), ", ");
}

// "3f2a…/eth0/linnet" with the pod's name in the place of its id.
std::string OwnerIn(const std::map<std::string, std::string>& names, const std::string& owner) {
  const std::size_t slash = owner.find('/');
  if (owner.starts_with('@') || slash == std::string::npos) return owner;
  return NameIn(names, owner.substr(0, slash)) + owner.substr(slash);
}

Json DumpJsonOf(const ext::NetworkDumpResponse& dump) {
  Json out = {{"network", dump.network()},
              {"source", dump.source()},
              {"ready", dump.ready()},
              {"message", dump.message()},
              {"pool",
               {{"size", dump.pool_size()},
                {"ready", dump.pool_ready()},
                {"bytesEach", dump.pool_bytes_each()}}},
              {"attachments", Json::array()},
              {"sets", Json::array()}};
  for (const auto& a : dump.attachments()) {
    out["attachments"].push_back({{"pod", a.pod_id()},
                                  {"network", a.network()},
                                  {"interface", a.interface()},
                                  {"state", a.state()},
                                  {"netns", a.netns()},
                                  {"hostLink", a.host_link()},
                                  {"addresses", a.addresses()},
                                  {"hostPorts", a.host_ports()},
                                  {"error", a.error()}});
  }
  for (const auto& set : dump.sets()) {
    Json elements = Json::array();
    for (const auto& e : set.elements())
      elements.push_back({{"element", e.text()}, {"owner", e.owner()}});
    out["sets"].push_back({{"table", set.table()}, {"name", set.name()}, {"elements", elements}});
  }
  return out;
}

Result<int> Dump(const App& app) {
  const auto client = LN_TRY(app.Connect());
  const auto dump = LN_TRY(
      client->Call(client->linnet(), &ext::Linnet::Stub::NetworkDump, ext::NetworkDumpRequest()));
  if (app.json()) {
    PrintJson(DumpJsonOf(dump));
    return 0;
  }
  const auto names = LN_TRY(PodNames(*client));
  std::printf("network %s (%s), %s%s%s\n", dump.network().c_str(), dump.source().c_str(),
              dump.ready() ? "ready" : "not ready", dump.message().empty() ? "" : ": ",
              dump.message().c_str());
  std::printf("namespaces %u of %u ready, about %llu KiB of the kernel's memory each\n\n",
              dump.pool_ready(), dump.pool_size(),
              static_cast<unsigned long long>(dump.pool_bytes_each() >> 10U));
  Table pods({"POD", "NETWORK", "INTERFACE", "STATE", "LINK", "ADDRESSES", "HOST PORTS"});
  for (const auto& a : dump.attachments()) {
    pods.Add({NameIn(names, a.pod_id()), a.network(), a.interface(), a.state(),
              a.host_link().empty() ? "-" : a.host_link(), Joined(a.addresses()),
              Joined(a.host_ports())});
  }
  pods.Print();
  for (const auto& set : dump.sets()) {
    std::printf("\n%s, %s\n", set.table().c_str(), set.name().c_str());
    for (const auto& e : set.elements())
      std::printf("  %-50s %s\n", e.text().c_str(), OwnerIn(names, e.owner()).c_str());
  }
  return 0;
}

Result<int> Check(const App& app, const std::string& pod) {
  const auto client = LN_TRY(app.Connect());
  ext::NetworkCheckRequest request;
  if (!pod.empty()) request.set_pod_id(LN_TRY(FindPod(*client, pod)).id());
  const auto answer =
      LN_TRY(client->Call(client->linnet(), &ext::Linnet::Stub::NetworkCheck, request));
  const auto names = LN_TRY(PodNames(*client));
  bool bad = false;
  Json json = Json::array();
  Table table({"POD", "NETWORK", "RESULT"});
  for (const auto& p : answer.pods()) {
    bad = bad || !p.error().empty();
    json.push_back({{"pod", p.pod_id()}, {"network", p.network()}, {"error", p.error()}});
    table.Add({NameIn(names, p.pod_id()), p.network(), p.error().empty() ? "ok" : p.error()});
  }
  if (app.json()) {
    PrintJson(json);
  } else {
    table.Print();
  }
  return bad ? 1 : 0;
}

Result<int> Gc(const App& app) {
  const auto client = LN_TRY(app.Connect());
  const auto answer = LN_TRY(
      client->Call(client->linnet(), &ext::Linnet::Stub::NetworkGc, ext::NetworkGcRequest()));
  if (app.json()) {
    PrintJson(Json(std::vector<std::string>(answer.removed().begin(), answer.removed().end())));
    return 0;
  }
  for (const std::string& what : answer.removed()) std::printf("%s\n", what.c_str());
  return 0;
}

Result<int> ListAddresses(const App& app) {
  const auto client = LN_TRY(app.Connect());
  const auto answer = LN_TRY(client->Call(client->linnet(), &ext::Linnet::Stub::ListAddresses,
                                          ext::ListAddressesRequest()));
  if (app.json()) {
    Json json = Json::array();
    for (const auto& a : answer.addresses()) {
      json.push_back({{"network", a.network()},
                      {"address", a.address()},
                      {"container", a.container_id()},
                      {"interface", a.interface()},
                      {"state", a.state()}});
    }
    PrintJson(json);
    return 0;
  }
  const auto names = LN_TRY(PodNames(*client));
  Table table({"ADDRESS", "NETWORK", "POD", "INTERFACE", "STATE"});
  for (const auto& a : answer.addresses()) {
    table.Add({a.address(), a.network(), NameIn(names, a.container_id()),
               a.interface().empty() ? "-" : a.interface(), a.state()});
  }
  table.Print();
  return 0;
}

Result<int> Doctor(const App& app) {
  const auto client = LN_TRY(app.Connect());
  const auto answer =
      LN_TRY(client->Call(client->linnet(), &ext::Linnet::Stub::Doctor, ext::DoctorRequest()));
  bool bad = false;
  Json json = Json::array();
  for (const auto& f : answer.findings()) {
    bad = bad || f.level() == "problem";
    json.push_back({{"level", f.level()}, {"subject", f.subject()}, {"text", f.text()}});
    if (!app.json()) {
      std::printf("%-8s %s: %s\n", f.level().c_str(), f.subject().c_str(), f.text().c_str());
    }
  }
  if (app.json()) PrintJson(json);
  return bad ? 1 : 0;
}

struct InstallOptions {
  std::string dir;
  bool copy = false, force = false;
};

// By the program that the links are to, which stands beside this one.
Result<int> Install(const InstallOptions& o) {
  const std::string beside = JoinPath(Dirname(LN_TRY(RealPath("/proc/self/exe"))), "linnet-cni");
  const std::string program = Exists(beside) ? beside : "linnet-cni";
  std::vector<std::string> args = {program, "install"};
  if (o.copy) args.emplace_back("--copy");
  if (o.force) args.emplace_back("--force");
  args.push_back(o.dir);
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  ::execvp(program.c_str(), argv.data());
  return Error::FromErrno(errno, "start " + program + " (it is installed with linnetd)");
}

}  // namespace

void AddNetwork(App& app) {
  CLI::App* network = app.root().add_subcommand("network", "the pods' network, looked at closely");
  network->require_subcommand(1);
  app.OnRun(network->add_subcommand("dump", "attachments, host ports, and linnet's nftables"),
            [&app] { return Dump(app); });
  auto pod = std::make_shared<std::string>();
  CLI::App* check = network->add_subcommand(
      "check", "whether pods' networks are as they should be (CNI CHECK); exit code 1 if not");
  check->add_option("POD", *pod, "this one only");
  app.OnRun(check, [&app, pod] { return Check(app, *pod); });
  app.OnRun(network->add_subcommand(
                "gc", "remove links, addresses and nftables elements that belong to no pod"),
            [&app] { return Gc(app); });

  CLI::App* ipam = app.root().add_subcommand("ipam", "addresses of pods");
  ipam->require_subcommand(1);
  app.OnRun(ipam->add_subcommand("ls", "addresses in use, and whose they are"),
            [&app] { return ListAddresses(app); });

  CLI::App* cni = app.root().add_subcommand("cni", "linnet's CNI plugins for other runtimes");
  cni->require_subcommand(1);
  auto install = std::make_shared<InstallOptions>();
  CLI::App* command = cni->add_subcommand("install", "make DIR/bridge, DIR/host-local, …");
  command->add_option("DIR", install->dir, "where the other runtime looks, as /opt/cni/bin")
      ->required();
  command->add_flag("--copy", install->copy, "a copy of the program in DIR, not links to this one");
  command->add_flag("--force", install->force, "replace plugins that are there already");
  app.OnRun(command, [install] { return Install(*install); });
}

void AddDoctor(App& app) {
  CLI::App* doctor = app.root().add_subcommand(
      "doctor", "is this node well? Kernel, network, pods, left-overs; exit code 1 if not");
  app.OnRun(doctor, [&app] { return Doctor(app); });
}

}  // namespace linnet::cli
