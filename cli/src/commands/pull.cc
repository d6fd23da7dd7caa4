#include "pull.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <map>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "app.h"
#include "format.h"

namespace linnet::cli {
namespace {

// On a terminal one line that changes, else a line for each thing that has begun.
class ProgressLine {
 public:
  explicit ProgressLine(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~ProgressLine() { Clear(); }

  void Show(const ext::PullProgress& p) {
    if (quiet_ || p.what().empty()) return;
    auto& [done, total] = parts_[p.what()];
    const bool fresh = done == 0 && total == 0;
    done = p.done_bytes();
    total = p.total_bytes();
    if (!terminal_) {
      if (fresh && announced_.emplace(p.what(), true).second) {
        std::fprintf(stderr, "%s%s\n", p.what().c_str(),
                     total > 0 ? (" (" + FormatBytes(total) + ")").c_str() : "");
      }
      return;
    }
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(50)) return;
    last_ = now;
    std::uint64_t all_done = 0;
    std::uint64_t all = 0;
    for (const auto& [what, bytes] : parts_) {
      all_done += bytes.first;
      all += bytes.second;
    }
    std::string line = p.what();
    if (all > 0) line = FormatBytes(all_done) + " of " + FormatBytes(all) + "   " + line;
    std::fprintf(stderr, "\r\033[K%.*s", 78, line.c_str());
    std::fflush(stderr);
    drawn_ = true;
  }
  void Clear() {
    if (drawn_) std::fprintf(stderr, "\r\033[K");
    drawn_ = false;
  }

 private:
  bool quiet_, terminal_;
  bool drawn_ = false;
  std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> parts_;
  std::map<std::string, bool> announced_;
  std::chrono::steady_clock::time_point last_;
};

struct PullOptions {
  std::string image, username;
  bool password_stdin = false, quiet = false;
};

Result<PullCredentials> Credentials(const PullOptions& o) {
  PullCredentials out;
  if (o.username.empty() != !o.password_stdin)
    return InvalidArgument("--username and --password-stdin belong together");
  if (o.username.empty()) return out;
  out.username = o.username;
  out.password = std::string(Trim(LN_TRY(ReadAll(FdRef(STDIN_FILENO), 64 << 10))));
  return out;
}

}  // namespace

Result<std::string> Pull(Client& client, const std::string& image,
                         const PullCredentials& credentials, bool quiet) {
  ext::PullImageRequest request;
  request.set_image(image);
  if (!credentials.username.empty()) {
    request.mutable_auth()->set_username(credentials.username);
    request.mutable_auth()->set_password(credentials.password);
  }
  grpc::ClientContext context;
  Client::Prepare(context, std::chrono::seconds(0));
  auto reader = client.linnet().PullImage(&context, request);
  std::string id;
  {
    ProgressLine line(quiet);
    ext::PullProgress progress;
    while (reader->Read(&progress)) {
      if (!progress.image_id().empty()) id = progress.image_id();
      line.Show(progress);
    }
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return client.Translate(status);
  return id;
}

Result<void> EnsureImage(Client& client, const std::string& image, const std::string& policy) {
  if (policy != "always") {
    cri::ImageStatusRequest ask;
    ask.mutable_image()->set_image(image);
    if (LN_TRY(client.Call(client.images(), &cri::ImageService::Stub::ImageStatus, ask))
            .has_image())
      return Ok();
    if (policy == "never")
      return NotFound("image \"" + image + "\" is not here, and --pull never was given");
  }
  std::fprintf(stderr, "linnet: pulling %s\n", image.c_str());
  LN_TRY(Pull(client, image, {}, false));
  return Ok();
}

void AddPull(App& app) {
  auto options = std::make_shared<PullOptions>();
  CLI::App* pull = app.root().add_subcommand("pull", "get an image from its registry");
  pull->footer(
      "  linnet pull docker.io/library/nginx:latest\n"
      "  echo \"$PASSWORD\" | linnet pull --username me --password-stdin "
      "registry.example.com/app:1");
  pull->add_option("--username", options->username, "at the registry");
  pull->add_flag("--password-stdin", options->password_stdin,
                 "read the password from standard input");
  pull->add_flag("-q,--quiet", options->quiet, "no progress");
  pull->add_option("image", options->image, "[HOST/]NAME[:TAG][@DIGEST]")
      ->required()
      ->type_name("IMAGE");
  app.OnRun(pull, [&app, options]() -> Result<int> {
    const PullCredentials credentials = LN_TRY(Credentials(*options));
    const std::unique_ptr<Client> client = LN_TRY(app.Connect());
    const std::string id = LN_TRY(Pull(*client, options->image, credentials, options->quiet));
    if (app.json()) {
      PrintJson({{"image", options->image}, {"id", id}});
    } else {
      std::printf("%s\n", id.c_str());
    }
    return 0;
  });
}

}  // namespace linnet::cli
