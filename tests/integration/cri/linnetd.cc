#include "linnetd.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <grpcpp/grpcpp.h>

#include "linnet/base/file.h"

namespace linnet::testing {
namespace {

namespace v1 = ::runtime::v1;
constexpr auto kStartLimit = std::chrono::seconds(20);

std::string SourceDir() {
  const char* dir = std::getenv("LINNET_SOURCE_DIR");
  return dir == nullptr ? "." : dir;
}

bool Listens(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), std::min(path.size(), sizeof address.sun_path - 1));
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

std::string BinDir() {
  const char* dir = std::getenv("LINNET_BIN_DIR");
  return dir == nullptr ? "." : dir;
}

Linnetd::~Linnetd() {
  if (process_.pid() > 0) (void)Stop();  // the test is over; Process kills what does not end
}

Result<void> Linnetd::Start() {
  LN_TRY(MakeDirs(options_.directory, 0755));
  const UniqueFd log =
      LN_TRY(Open(options_.directory + "/log", O_WRONLY | O_CREAT | O_APPEND, 0644));
  SpawnSpec spec;
  spec.path = BinDir() + "/linnetd";
  spec.argv = {"linnetd",     "--root", root(), "--state", options_.directory + "/state",
               "--log-level", "debug"};
  spec.argv.insert(spec.argv.end(), options_.arguments.begin(), options_.arguments.end());
  spec.env = options_.env;
  spec.env.emplace_back("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
  spec.fds = options_.fds;
  spec.fds.push_back({log, 1});
  spec.fds.push_back({log, 2});
  process_ = LN_TRY(Spawn(spec));
  return Ok();
}

Result<void> Linnetd::StartAndWait() {
  LN_TRY(Start());
  const Deadline deadline = std::chrono::steady_clock::now() + kStartLimit;
  while (std::chrono::steady_clock::now() < deadline) {
    // gRPC would wait for seconds before it tries a socket again that was not there at first.
    if (Listens(socket())) {
      const auto stub = v1::RuntimeService::NewStub(Connect());
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kStartLimit);
      v1::VersionResponse response;
      if (stub->Version(&context, v1::VersionRequest(), &response).ok()) return Ok();
    }
    auto ended = process_.Wait(std::chrono::steady_clock::now() + std::chrono::milliseconds(5));
    if (ended)
      return Unavailable("linnetd ended with code " + std::to_string(ended->code) + ": " + Log());
  }
  return Error(Code::kDeadlineExceeded, "linnetd does not answer: " + Log());
}

Result<ExitStatus> Linnetd::Stop(int signal, std::chrono::seconds limit) {
  LN_TRY(process_.Signal(signal));
  return process_.Wait(std::chrono::steady_clock::now() + limit);
}

void Linnetd::Kill9() {
  (void)process_.Signal(SIGKILL);  // gone already is what we want
  (void)process_.Wait(std::chrono::steady_clock::now() + std::chrono::seconds(10));
}

std::string Linnetd::Log() const {
  auto text = ReadFile(options_.directory + "/log");
  if (!text) return "(no log)";
  constexpr std::size_t kTail = 4000;
  return text->size() > kTail ? text->substr(text->size() - kTail) : *text;
}

std::shared_ptr<grpc::Channel> Linnetd::Connect() const {
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 10);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 50);
  return grpc::CreateCustomChannel("unix://" + socket(), grpc::InsecureChannelCredentials(), args);
}

Result<RunResult> RunProgram(const std::string& path, const std::vector<std::string>& arguments) {
  SpawnSpec spec;
  spec.path = path;
  spec.argv = {Basename(path)};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LINNET_ISOLATED=1"};
  return Run(std::move(spec), "", std::chrono::steady_clock::now() + std::chrono::seconds(60));
}

Result<void> ImportBusybox(const Linnetd& daemon, const std::string& scratch) {
  const std::string script =
      "set -e; mkdir -p " + scratch + "/rootfs/bin " + scratch + "/rootfs/etc; cd " + scratch +
      "/rootfs; cp \"$(command -v busybox)\" bin/busybox; for a in sh sleep "
      "true echo cat ls; do ln -sf busybox "
      "bin/$a; done; printf 'root:x:0:0::/:/bin/sh\\nuser:x:1000:100::/:/bin/sh\\n' "
      ">etc/passwd; printf 'root:x:0:\\nstaff:x:4242:user\\n' >etc/group; tar -cf ../image.tar .";
  const RunResult made = LN_TRY(RunProgram("/bin/sh", {"-c", script}));
  if (made.status.code != 0) return Internal("image: " + made.err);
  const std::string tar = LN_TRY(ReadFile(scratch + "/image.tar"));
  const auto stub = ::linnet::v1::Linnet::NewStub(daemon.Connect());
  grpc::ClientContext context;
  ::linnet::v1::ImportImageResponse response;
  const auto writer = stub->ImportImage(&context, &response);
  ::linnet::v1::ImportImageRequest request;
  request.mutable_options()->set_name(kImage);
  request.mutable_options()->add_cmd("/bin/sh");
  writer->Write(request);
  constexpr std::size_t kChunk = 1 << 20;
  for (std::size_t at = 0; at < tar.size(); at += kChunk) {
    request.set_data(tar.substr(at, kChunk));
    if (!writer->Write(request)) break;
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  if (!status.ok()) return Internal("import: " + status.error_message());
  return Ok();
}

Result<std::string> Census() {
  const RunResult result = LN_TRY(RunProgram(SourceDir() + "/contrib/lib/census", {"--settled"}));
  if (result.status.code != 0) return Internal("census: " + result.err);
  return result.out;
}

}  // namespace linnet::testing
