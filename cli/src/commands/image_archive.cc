// image import, load, save.
#include <cstdio>

#include "archive.h"
#include "format.h"
#include "image.h"
#include "progress.h"

namespace linnet::cli {
namespace {

struct ImportOptions {
  std::string file, name, workdir, user;
  std::vector<std::string> cmd, entrypoint, env;
  bool quiet = false;
};

void Fill(const ImportOptions& from, ext::ImportOptions* to) {
  to->set_name(from.name);
  to->set_working_dir(from.workdir);
  to->set_user(from.user);
  for (const auto& word : from.cmd) to->add_cmd(word);
  for (const auto& word : from.entrypoint) to->add_entrypoint(word);
  for (const auto& entry : from.env) to->add_env(entry);
}

Json NamesJson(const google::protobuf::RepeatedPtrField<std::string>& names) {
  Json out = Json::array();
  for (const auto& name : names) out.push_back(name);
  return out;
}

Result<ext::ImportImageResponse> Send(const App& app, const ImportOptions& o) {
  const auto reader = LN_TRY(ArchiveReader::Open(o.file));
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  grpc::ClientContext context;
  Client::Prepare(context, std::chrono::seconds(0));
  ext::ImportImageResponse response;
  auto writer = client->linnet().ImportImage(&context, &response);
  ext::ImportImageRequest first;
  Fill(o, first.mutable_options());
  Progress progress(o.quiet);
  std::uint64_t done = 0;
  bool open = writer->Write(first);
  while (open) {
    const auto bytes = reader->Next();
    if (!bytes) {
      context.TryCancel();
      (void)writer->Finish();  // the call is given up; what it says is of no interest
      return bytes.error();
    }
    if (bytes->empty()) break;
    ext::ImportImageRequest chunk;
    chunk.set_data(bytes->data(), bytes->size());
    open = writer->Write(chunk);  // false: the daemon has an error to tell
    done += bytes->size();
    progress.Show(o.file, done, reader->size());
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  if (!status.ok()) return client->Translate(status).With("import " + o.file);
  return response;
}

Result<int> Import(const App& app, const ImportOptions& o) {
  const ext::ImportImageResponse response = LN_TRY(Send(app, o));
  if (app.json()) {
    PrintJson({{"id", response.image_id()}, {"tags", NamesJson(response.repo_tags())}});
  } else {
    std::printf("%s\n", response.image_id().c_str());
  }
  return 0;
}

Result<int> Load(const App& app, const ImportOptions& o) {
  const ext::ImportImageResponse response = LN_TRY(Send(app, o));
  Json json = Json::array();
  for (const auto& image : response.images()) {
    json.push_back({{"id", image.id()}, {"tags", NamesJson(image.repo_tags())}});
    if (app.json()) continue;
    for (const auto& tag : image.repo_tags()) std::printf("%s\n", tag.c_str());
    if (image.repo_tags().empty()) std::printf("%s\n", image.id().c_str());
  }
  if (app.json()) PrintJson(json);
  return 0;
}

struct SaveOptions {
  std::vector<std::string> images;
  std::string output = "-", format = "oci", compress = "none";
  bool quiet = false;
};

Result<int> Save(const App& app, const SaveOptions& o) {
  const auto writer = LN_TRY(o.format == "dir" ? ArchiveWriter::ToDirectory(o.output)
                                               : ArchiveWriter::ToFile(o.output));
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  ext::SaveImagesRequest request;
  for (const auto& image : o.images) request.add_images(image);
  if (o.compress == "gzip") request.set_compression(ext::LAYER_COMPRESSION_GZIP);
  if (o.compress == "zstd") request.set_compression(ext::LAYER_COMPRESSION_ZSTD);
  grpc::ClientContext context;
  Client::Prepare(context, std::chrono::seconds(0));
  auto reader = client->linnet().SaveImages(&context, request);
  Progress progress(o.quiet);
  std::uint64_t done = 0;
  ext::SaveImagesPart part;
  while (reader->Read(&part)) {
    auto written = part.has_member() ? writer->Begin(part.member().name(), part.member().size())
                                     : writer->Write(part.data());
    if (!written) {
      context.TryCancel();
      (void)reader->Finish();  // the call is given up; what it says is of no interest
      return std::move(written).error().With("save to " + o.output);
    }
    done += part.data().size();
    progress.Show("saving", done, 0);
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return client->Translate(status).With("save");
  LN_TRY_CTX(writer->Finish(), "save to " + o.output);
  progress.Clear();
  if (o.output == "-") return 0;
  if (app.json()) PrintJson({{"file", o.output}, {"images", o.images}, {"bytes", done}});
  return 0;
}

}  // namespace

void AddImageArchives(App& app, CLI::App& image) {
  auto options = std::make_shared<ImportOptions>();
  CLI::App* import = image.add_subcommand("import", "make an image of a file");
  import->footer(
      "FILE is a root file system (tar; gzip, zstd or plain), an OCI archive, a docker archive, or "
      "the directory of an OCI layout.\n\n"
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
  import->add_flag("-q,--quiet", options->quiet, "no progress");
  import->add_option("file", options->file, "- is standard input")->required()->type_name("FILE");
  app.OnRun(import, [&app, options] { return Import(app, *options); });

  auto loaded = std::make_shared<ImportOptions>();
  loaded->file = "-";
  CLI::App* load = image.add_subcommand("load", "bring the images of an archive here");
  load->footer(
      "FILE is an OCI archive or a docker archive, also a compressed one, or the directory of an "
      "OCI layout.\n\n"
      "  linnet image load images.tar\n"
      "  ssh build-host docker save app:1 | linnet image load");
  load->add_flag("-q,--quiet", loaded->quiet, "no progress");
  load->add_option("-i,--input,file", loaded->file, "default: standard input")->type_name("FILE");
  app.OnRun(load, [&app, loaded] { return Load(app, *loaded); });

  auto saved = std::make_shared<SaveOptions>();
  CLI::App* save = image.add_subcommand("save", "write images to an archive");
  save->footer(
      "The archive is an OCI layout that docker, podman, skopeo and containerd read; ids of images "
      "stay what they are.\n\n"
      "  linnet image save app:1 app:2 -o apps.tar\n"
      "  linnet image save --format dir app:1 -o layout/\n"
      "  linnet image save app:1 | ssh other linnet image load");
  save->add_option("-o,--output", saved->output, "default: standard output")->type_name("FILE");
  save->add_option("--format", saved->format, "oci (a tar) or dir (a directory)")
      ->check(CLI::IsMember({"oci", "dir"}));
  save->add_option("--compress", saved->compress, "layers: none (default), gzip or zstd")
      ->check(CLI::IsMember({"none", "gzip", "zstd"}));
  save->add_flag("-q,--quiet", saved->quiet, "no progress");
  save->add_option("images", saved->images, "names or ids")->required()->type_name("IMAGE");
  app.OnRun(save, [&app, saved] { return Save(app, *saved); });
}

}  // namespace linnet::cli
