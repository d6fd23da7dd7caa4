// images, rmi.
#include <cstdio>

#include "linnet/base/text.h"

#include "app.h"
#include "format.h"

namespace linnet::cli {
namespace {

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

  AddImageCommands(app);
}

}  // namespace linnet::cli
