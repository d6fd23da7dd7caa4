// images, rmi, image import.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "app.h"
#include "format.h"

namespace linnet::cli {
namespace {

constexpr std::size_t kChunkBytes = 1U << 20;

// "a/b:1" → "a/b", "1"; a port is no tag.
std::pair<std::string, std::string> SplitTag(const std::string& tag) {
  const std::size_t colon = tag.rfind(':');
  if (colon == std::string::npos || tag.find('/', colon) != std::string::npos) return {tag, "-"};
  return {tag.substr(0, colon), tag.substr(colon + 1)};
}

Result<int> Images(const App& app, bool quiet) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  const auto list = LN_TRY(client->Call(client->images(), &cri::ImageService::Stub::ListImages,
                                        cri::ListImagesRequest()));
  Json json = Json::array();
  Table table({"IMAGE", "TAG", "ID", "SIZE"});
  for (const auto& image : list.images()) {
    if (quiet) std::printf("%s\n", image.id().c_str());
    json.push_back(ToJson(image));
    const std::string size = FormatBytes(image.size());
    for (const auto& tag : image.repo_tags()) {
      auto [name, version] = SplitTag(tag);
      table.Add({name, version, ShortId(image.id()), size});
    }
    if (!image.repo_tags().empty()) continue;
    const std::string name = image.repo_digests().empty()
                                 ? "-"
                                 : image.repo_digests(0).substr(0, image.repo_digests(0).find('@'));
    table.Add({name, "-", ShortId(image.id()), size});
  }
  if (quiet) return 0;
  if (app.json()) {
    PrintJson(json);
  } else {
    table.Print();
  }
  return 0;
}

Result<int> RemoveImages(const App& app, const std::vector<std::string>& names, bool force) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  int code = 0;
  for (const std::string& name : names) {
    cri::ImageStatusRequest ask;
    ask.mutable_image()->set_image(name);
    const bool here =
        LN_TRY(client->Call(client->images(), &cri::ImageService::Stub::ImageStatus, ask))
            .has_image();
    if (!here) {
      if (force) continue;
      std::fprintf(stderr, "linnet: no image \"%s\" (linnet images lists all)\n", name.c_str());
      code = 1;
      continue;
    }
    cri::RemoveImageRequest request;
    request.mutable_image()->set_image(name);
    LN_TRY(client->Call(client->images(), &cri::ImageService::Stub::RemoveImage, request));
    std::printf("%s\n", name.c_str());
  }
  return code;
}

struct ImportOptions {
  std::string file, name, workdir, user;
  std::vector<std::string> cmd, entrypoint, env;
};

Result<int> Import(const App& app, const ImportOptions& o) {
  UniqueFd opened;
  FdRef from(STDIN_FILENO);
  if (o.file != "-") {
    opened = LN_TRY(Open(o.file, O_RDONLY));
    from = opened;
  }
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  grpc::ClientContext context;
  Client::Prepare(context, std::chrono::seconds(0));
  ext::ImportImageResponse response;
  auto writer = client->linnet().ImportImage(&context, &response);
  ext::ImportImageRequest first;
  auto* options = first.mutable_options();
  options->set_name(o.name);
  options->set_working_dir(o.workdir);
  options->set_user(o.user);
  for (const auto& word : o.cmd) options->add_cmd(word);
  for (const auto& word : o.entrypoint) options->add_entrypoint(word);
  for (const auto& entry : o.env) options->add_env(entry);
  bool open = writer->Write(first);
  std::string buffer(kChunkBytes, '\0');
  while (open) {
    const ssize_t n = ::read(from.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const Error error = Error::FromErrno(errno, "read " + o.file);
      context.TryCancel();
      (void)writer->Finish();  // the call is given up; what it says is of no interest
      return error;
    }
    if (n == 0) break;
    ext::ImportImageRequest chunk;
    chunk.set_data(buffer.data(), static_cast<std::size_t>(n));
    open = writer->Write(chunk);  // false: the daemon has an error to tell
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  if (!status.ok()) return client->Translate(status).With("import " + o.file);
  if (app.json()) {
    Json tags = Json::array();
    for (const auto& tag : response.repo_tags()) tags.push_back(tag);
    PrintJson({{"id", response.image_id()}, {"tags", tags}});
  } else {
    std::printf("%s\n", response.image_id().c_str());
  }
  return 0;
}

}  // namespace

void AddImages(App& app) {
  auto quiet = std::make_shared<bool>(false);
  CLI::App* images = app.root().add_subcommand("images", "list the images that are here");
  images->add_flag("-q,--quiet", *quiet, "ids only");
  app.OnRun(images, [&app, quiet] { return Images(app, *quiet); });

  auto names = std::make_shared<std::vector<std::string>>();
  auto force = std::make_shared<bool>(false);
  CLI::App* rmi = app.root().add_subcommand("rmi", "remove images");
  rmi->add_flag("-f,--force", *force, "no error for those that are not here");
  rmi->add_option("images", *names, "name or id; all its names go")->required()->type_name("IMAGE");
  app.OnRun(rmi, [&app, names, force] { return RemoveImages(app, *names, *force); });

  auto options = std::make_shared<ImportOptions>();
  CLI::App* image = app.root().add_subcommand("image", "more about images");
  image->require_subcommand(1);
  CLI::App* import = image->add_subcommand("import", "make an image of a file");
  import->footer(
      "FILE is a root file system (tar; gzip, zstd or plain), an OCI archive or a docker "
      "archive.\n\n"
      "  linnet image import rootfs.tar --name local/debian:12 --cmd /bin/bash\n"
      "  skopeo copy docker://alpine oci-archive:/dev/stdout | linnet image import - --name "
      "local/alpine:1");
  import->add_option("--name", options->name, "needed for a root file system")->type_name("IMAGE");
  import->add_option("--cmd", options->cmd, "a word of the default command (repeatable)")
      ->type_name("WORD")
      ->expected(1)
      ->take_all();
  import->add_option("--entrypoint", options->entrypoint, "a word of the entrypoint (repeatable)")
      ->type_name("WORD")
      ->expected(1)
      ->take_all();
  import->add_option("-e,--env", options->env, "KEY=VALUE (repeatable)")
      ->type_name("ENV")
      ->expected(1)
      ->take_all();
  import->add_option("-w,--workdir", options->workdir, "working directory");
  import->add_option("-u,--user", options->user, "default user");
  import->add_option("file", options->file, "- is standard input")->required()->type_name("FILE");
  app.OnRun(import, [&app, options] { return Import(app, *options); });
}

}  // namespace linnet::cli
