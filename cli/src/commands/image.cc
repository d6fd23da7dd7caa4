// image tag, pin, unpin, inspect, history, df, prune, fsck, mount, unmount, preload.
#include "image.h"

#include <cstdio>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "format.h"
#include "progress.h"

namespace linnet::cli {
namespace {

using Stub = ext::Linnet::Stub;
constexpr auto kLong = std::chrono::minutes(30);

std::string NameOf(const std::string& id,
                   const google::protobuf::RepeatedPtrField<std::string>& tags) {
  return tags.empty() ? ShortId(id) : tags.Get(0);
}

Json ListOf(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  Json out = Json::array();
  for (const auto& text : texts) out.push_back(text);
  return out;
}

Result<int> Tag(const App& app, const std::string& image, const std::vector<std::string>& names) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  for (const std::string& name : names) {
    ext::TagImageRequest request;
    request.set_image(image);
    request.set_name(name);
    LN_TRY(client->Call(client->linnet(), &Stub::TagImage, request));
    if (!app.json()) std::printf("%s\n", name.c_str());
  }
  if (app.json()) PrintJson({{"image", image}, {"names", names}});
  return 0;
}

Result<int> Pin(const App& app, const std::vector<std::string>& images, bool pinned) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  Json json = Json::array();
  for (const std::string& image : images) {
    ext::PinImageRequest request;
    request.set_image(image);
    request.set_pinned(pinned);
    const auto response = LN_TRY(client->Call(client->linnet(), &Stub::PinImage, request));
    json.push_back({{"image", image}, {"pinned", response.pinned()}});
    if (app.json()) continue;
    std::printf("%s\n", image.c_str());
    if (!pinned && response.pinned()) {
      std::fprintf(stderr, "linnet: %s stays pinned: images.pinned of the configuration names it\n",
                   image.c_str());
    }
  }
  if (app.json()) PrintJson(json);
  return 0;
}

Result<ext::InspectImageResponse> Ask(const App& app, const std::string& image) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  ext::InspectImageRequest request;
  request.set_image(image);
  return client->Call(client->linnet(), &Stub::InspectImage, request);
}

Json Document(const std::string& text) {
  Json json = Json::parse(text, nullptr, false);
  return json.is_discarded() ? Json() : json;
}

// Always JSON: there is no table of it.
Result<int> Inspect(const App& app, const std::vector<std::string>& images) {
  Json out = Json::array();
  for (const std::string& image : images) {
    const auto r = LN_TRY(Ask(app, image));
    Json layers = Json::array();
    for (const auto& layer : r.layers()) {
      layers.push_back({{"diffId", layer.diff_id()},
                        {"directory", layer.directory()},
                        {"blob", layer.blob()},
                        {"blobBytes", layer.blob_bytes()},
                        {"diskBytes", layer.disk_bytes()},
                        {"inodes", layer.inodes()},
                        {"exact", layer.exact()},
                        {"images", layer.images()}});
    }
    out.push_back({{"id", r.id()},
                   {"repoTags", ListOf(r.repo_tags())},
                   {"repoDigests", ListOf(r.repo_digests())},
                   {"sizeBytes", r.size_bytes()},
                   {"pinned", r.pinned()},
                   {"inUse", r.in_use()},
                   {"config", Document(r.config_json())},
                   {"manifest", Document(r.manifest_json())},
                   {"layers", std::move(layers)}});
  }
  PrintJson(out);
  return 0;
}

Result<int> History(const App& app, const std::string& image, bool whole) {
  const auto r = LN_TRY(Ask(app, image));
  Json json = Json::array();
  Table table({"CREATED", "SIZE", "LAYER", "CREATED BY"});
  // The newest first, as people read it.
  for (int i = r.history_size() - 1; i >= 0; --i) {
    const auto& h = r.history(i);
    json.push_back({{"created", h.created()},
                    {"createdBy", h.created_by()},
                    {"comment", h.comment()},
                    {"emptyLayer", h.empty_layer()},
                    {"diffId", h.diff_id()},
                    {"diskBytes", h.disk_bytes()}});
    std::string by = h.created_by();
    for (char& c : by) {
      if (c == '\n' || c == '\t') c = ' ';
    }
    if (!whole && by.size() > 60) by = by.substr(0, 57) + "...";
    table.Add({h.created().empty() ? "-" : h.created().substr(0, 19),
               h.diff_id().empty() ? "0" : FormatBytes(h.disk_bytes()),
               h.diff_id().empty() ? "-" : ShortId(h.diff_id()), by});
  }
  if (app.json()) {
    PrintJson(json);
  } else {
    table.Print();
  }
  return 0;
}

Result<int> Df(const App& app) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  const auto r = LN_TRY(client->Call(client->linnet(), &Stub::DiskUse, ext::DiskUseRequest()));
  Json images = Json::array();
  Table table({"IMAGE", "ID", "SIZE", "ALONE", "STATE"});
  for (const auto& image : r.images()) {
    images.push_back({{"id", image.id()},
                      {"tags", ListOf(image.repo_tags())},
                      {"bytes", image.bytes()},
                      {"uniqueBytes", image.unique_bytes()},
                      {"inUse", image.in_use()},
                      {"pinned", image.pinned()}});
    std::string state = image.in_use() ? "in use" : "";
    if (image.pinned()) state += state.empty() ? "pinned" : ", pinned";
    table.Add({image.repo_tags().empty() ? "-" : image.repo_tags(0), ShortId(image.id()),
               FormatBytes(image.bytes()), FormatBytes(image.unique_bytes()),
               state.empty() ? "-" : state});
  }
  if (app.json()) {
    PrintJson({{"images", std::move(images)},
               {"layers", r.layers()},
               {"bytes", r.bytes()},
               {"inodes", r.inodes()},
               {"reclaimableBytes", r.reclaimable_bytes()},
               {"unfinishedBytes", r.unfinished_bytes()},
               {"containersBytes", r.containers_bytes()}});
    return 0;
  }
  table.Print();
  const std::string line = "\n" + std::to_string(r.images_size()) + " images, " +
                           std::to_string(r.layers()) + " layers: " + FormatBytes(r.bytes()) +
                           " in " + std::to_string(r.inodes()) + " files and directories; " +
                           FormatBytes(r.reclaimable_bytes()) +
                           " of it would go with `linnet image prune --all`\n";
  std::fputs(line.c_str(), stdout);
  if (r.unfinished_bytes() > 0)
    std::printf("layers of pulls that failed: %s\n", FormatBytes(r.unfinished_bytes()).c_str());
  std::printf("writable layers of running containers: %s\n",
              FormatBytes(r.containers_bytes()).c_str());
  return 0;
}

Result<int> Prune(const App& app, bool all, bool dry_run) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  ext::PruneImagesRequest request;
  request.set_all(all);
  request.set_dry_run(dry_run);
  const auto r = LN_TRY(client->Call(client->linnet(), &Stub::PruneImages, request, kLong));
  Json json = Json::array();
  for (const auto& image : r.removed()) {
    json.push_back({{"id", image.id()}, {"tags", ListOf(image.repo_tags())}});
    if (!app.json()) std::printf("%s\n", NameOf(image.id(), image.repo_tags()).c_str());
  }
  if (app.json()) {
    PrintJson({{"removed", std::move(json)}, {"freedBytes", r.freed_bytes()}});
  } else {
    std::printf("%s%s\n", FormatBytes(r.freed_bytes()).c_str(),
                dry_run ? " would be freed" : " freed");
  }
  return 0;
}

struct FsckOptions {
  std::vector<std::string> images;
  bool repair = false, quiet = false;
};

Result<int> Fsck(const App& app, const FsckOptions& o) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  ext::CheckImagesRequest request;
  for (const auto& image : o.images) request.add_images(image);
  request.set_repair(o.repair);
  grpc::ClientContext context;
  Client::Prepare(context, std::chrono::seconds(0));
  auto reader = client->linnet().CheckImages(&context, request);
  ext::CheckImagesPart part, last;
  {
    Progress progress(o.quiet);
    while (reader->Read(&part)) {
      if (part.last()) last = part;
      progress.Show(part.progress().what(), part.progress().done_bytes(),
                    part.progress().total_bytes());
    }
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return client->Translate(status);
  Json json = Json::array();
  int bad = 0;
  int good = 0;
  for (const auto& finding : last.findings()) {
    json.push_back({{"layer", finding.layer()},
                    {"state", finding.state()},
                    {"problems", ListOf(finding.problems())},
                    {"images", ListOf(finding.images())}});
    if (finding.state() == "damaged") ++bad;
    if (finding.state() == "good") {
      ++good;
      continue;
    }
    if (app.json()) continue;
    std::printf("%s: %s (%s)\n", finding.state().c_str(), finding.layer().c_str(),
                finding.images().empty() ? "-" : finding.images(0).c_str());
    for (const auto& problem : finding.problems()) std::printf("  %s\n", problem.c_str());
  }
  if (app.json()) {
    PrintJson(json);
  } else {
    std::printf("%d of %d layers are good\n", good, last.findings_size());
  }
  return bad > 0 ? 1 : 0;
}

void PrintMounts(const App& app, const google::protobuf::RepeatedPtrField<ext::ImageMount>& list) {
  Json json = Json::array();
  Table table({"TARGET", "IMAGE", "ID"});
  for (const auto& mount : list) {
    json.push_back({{"target", mount.target()}, {"image", mount.name()}, {"id", mount.image_id()}});
    table.Add({mount.target(), mount.name(), ShortId(mount.image_id())});
  }
  if (app.json()) {
    PrintJson(json);
  } else {
    table.Print();
  }
}

Result<int> Mount(const App& app, const std::string& image, const std::string& target) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  if (image.empty()) {
    const auto r = LN_TRY(
        client->Call(client->linnet(), &Stub::ListImageMounts, ext::ListImageMountsRequest()));
    PrintMounts(app, r.mounts());
    return 0;
  }
  if (target.empty()) return InvalidArgument("give a directory to mount the image at");
  ext::MountImageRequest request;
  request.set_image(image);
  // The daemon has another working directory.
  std::string absolute = target;
  if (!target.starts_with('/')) absolute = JoinPath(LN_TRY(RealPath(".")), target);
  request.set_target(CleanPath(absolute));
  const auto r = LN_TRY(client->Call(client->linnet(), &Stub::MountImage, request));
  if (app.json()) {
    PrintJson({{"target", r.target()}, {"image", r.name()}, {"id", r.image_id()}});
  } else {
    std::printf("%s\n", r.target().c_str());
  }
  return 0;
}

Result<int> Unmount(const App& app, const std::string& what) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  ext::UnmountImageRequest request;
  const auto real = RealPath(what);
  request.set_target_or_image(real ? *real : what);
  const auto r = LN_TRY(client->Call(client->linnet(), &Stub::UnmountImage, request));
  if (app.json()) {
    PrintMounts(app, r.mounts());
  } else {
    for (const auto& mount : r.mounts()) std::printf("%s\n", mount.target().c_str());
  }
  return 0;
}

Result<int> Preload(const App& app, bool list) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  ext::PreloadRequest request;
  request.set_scan(!list);
  const auto r = LN_TRY(client->Call(client->linnet(), &Stub::Preload, request, kLong));
  Json json = Json::array();
  Table table({"FILE", "STATE", "IMAGES"});
  int failed = 0;
  for (const auto& file : r.files()) {
    json.push_back({{"file", file.file()},
                    {"state", file.state()},
                    {"error", file.error()},
                    {"images", ListOf(file.images())}});
    std::string images;
    for (const auto& image : file.images()) images += (images.empty() ? "" : ", ") + image;
    table.Add({file.file(), file.state(), file.error().empty() ? images : file.error()});
    if (!file.error().empty()) ++failed;
  }
  if (app.json()) {
    PrintJson({{"directory", r.directory()}, {"files", std::move(json)}});
  } else {
    table.Print();
  }
  return failed > 0 ? 1 : 0;
}

void AddNames(App& app, CLI::App& image) {
  auto from = std::make_shared<std::string>();
  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* tag = image.add_subcommand("tag", "give an image another name");
  tag->add_option("image", *from, "name or id")->required()->type_name("IMAGE");
  tag->add_option("names", *names, "[HOST/]NAME[:TAG]")->required()->type_name("NAME");
  app.OnRun(tag, [&app, from, names] { return Tag(app, *from, *names); });

  for (const bool pinned : {true, false}) {
    auto images = std::make_shared<std::vector<std::string>>();
    CLI::App* pin = pinned ? image.add_subcommand("pin", "never remove an image but by name")
                           : image.add_subcommand("unpin", "let an image be removed when unused");
    pin->add_option("images", *images, "names or ids")->required()->type_name("IMAGE");
    app.OnRun(pin, [&app, images, pinned] { return Pin(app, *images, pinned); });
  }
}

void AddLooks(App& app, CLI::App& image) {
  auto images = std::make_shared<std::vector<std::string>>();
  CLI::App* inspect = image.add_subcommand("inspect", "all that is known of images, as JSON");
  inspect->add_option("images", *images, "names or ids")->required()->type_name("IMAGE");
  app.OnRun(inspect, [&app, images] { return Inspect(app, *images); });

  auto one = std::make_shared<std::string>();
  auto whole = std::make_shared<bool>(false);
  CLI::App* history = image.add_subcommand("history", "how an image came to be");
  history->add_flag("--no-trunc", *whole, "commands in full");
  history->add_option("image", *one, "name or id")->required()->type_name("IMAGE");
  app.OnRun(history, [&app, one, whole] { return History(app, *one, *whole); });

  CLI::App* df = image.add_subcommand("df", "what images take on the disk");
  app.OnRun(df, [&app] { return Df(app); });
}

void AddCare(App& app, CLI::App& image) {
  auto all = std::make_shared<bool>(false);
  auto dry_run = std::make_shared<bool>(false);
  CLI::App* prune = image.add_subcommand("prune", "remove images that have no name");
  prune->footer("Images that a container or a mount uses stay, and so do pinned ones.");
  prune->add_flag("-a,--all", *all, "also those that have a name, but no use");
  prune->add_flag("-n,--dry-run", *dry_run, "only tell");
  app.OnRun(prune, [&app, all, dry_run] { return Prune(app, *all, *dry_run); });

  auto fsck_options = std::make_shared<FsckOptions>();
  CLI::App* fsck = image.add_subcommand("fsck", "verify the layers of images");
  fsck->footer(
      "Makes the tar of each layer again and compares its digest, then owner, mode, time and links "
      "of each file. The exit code is 1 where something is damaged.");
  fsck->add_flag("--repair", fsck_options->repair,
                 "fetch damaged layers from where the image was pulled");
  fsck->add_flag("-q,--quiet", fsck_options->quiet, "no progress");
  fsck->add_option("images", fsck_options->images, "names or ids; default: all")
      ->type_name("IMAGE");
  app.OnRun(fsck, [&app, fsck_options] { return Fsck(app, *fsck_options); });
}

void AddMounts(App& app, CLI::App& image) {
  auto what = std::make_shared<std::string>();
  auto target = std::make_shared<std::string>();
  CLI::App* mount = image.add_subcommand("mount", "mount an image on the host, read-only");
  mount->footer("Without arguments: lists what is mounted.");
  mount->add_option("image", *what, "name or id")->type_name("IMAGE");
  mount->add_option("target", *target, "a directory, made if absent")->type_name("DIR");
  app.OnRun(mount, [&app, what, target] { return Mount(app, *what, *target); });

  auto mounted = std::make_shared<std::string>();
  CLI::App* unmount = image.add_subcommand("unmount", "end what mount has begun");
  unmount->alias("umount");
  unmount->add_option("target", *mounted, "the directory, or the image")
      ->required()
      ->type_name("DIR|IMAGE");
  app.OnRun(unmount, [&app, mounted] { return Unmount(app, *mounted); });
}

}  // namespace

void AddImageCommands(App& app) {
  CLI::App* image = app.root().add_subcommand("image", "more about images");
  image->require_subcommand(1);
  AddImageArchives(app, *image);
  AddNames(app, *image);
  AddLooks(app, *image);
  AddCare(app, *image);
  AddMounts(app, *image);

  auto list = std::make_shared<bool>(false);
  CLI::App* preload = image->add_subcommand("preload", "load what is new in the preload directory");
  preload->footer(
      "The daemon does it when it starts. Archives there are loaded once, and again when they "
      "change; their images are pinned. The directory is images.preload of the configuration.");
  preload->add_flag("--list", *list, "only tell what was loaded");
  app.OnRun(preload, [&app, list] { return Preload(app, *list); });
}

}  // namespace linnet::cli
