#include "image_rpcs.h"

#include "linnet/base/json_view.h"

#include "convert/from_cri.h"
#include "convert/to_cri.h"

namespace linnet::cri {
namespace {

// The image's configuration as the OCI image specification spells it.
std::string Describe(const oci::Image& image) {
  const oci::ImageConfig& c = image.config;
  Json ports = Json::object();
  for (const std::string& port : c.exposed_ports) ports[port] = Json::object();
  Json volumes = Json::object();
  for (const std::string& volume : c.volumes) volumes[volume] = Json::object();
  Json layers = Json::array();
  for (const oci::Digest& layer : c.diff_ids) layers.push_back(layer.str());
  const Json json = {{"imageSpec",
                      {{"architecture", c.architecture},
                       {"os", c.os},
                       {"created", c.created},
                       {"config",
                        {{"User", c.user},
                         {"Env", c.env},
                         {"Entrypoint", c.entrypoint},
                         {"Cmd", c.cmd},
                         {"WorkingDir", c.working_dir},
                         {"Volumes", volumes},
                         {"Labels", c.labels},
                         {"StopSignal", c.stop_signal},
                         {"ExposedPorts", ports}}},
                       {"rootfs", {{"type", "layers"}, {"diff_ids", layers}}}}}};
  return DumpJson(json);
}

}  // namespace

Result<void> ImageRpcs::List(const v1::ListImagesRequest& request, v1::ListImagesResponse& response,
                             const Call&) {
  const std::string& wanted = request.filter().image().image();
  if (!wanted.empty()) {
    if (const auto image = images_.Find(wanted)) ToCri(*image, response.add_images());
    return Ok();
  }
  for (const auto& image : images_.List()) ToCri(*image, response.add_images());
  return Ok();
}

Result<void> ImageRpcs::Status(const v1::ImageStatusRequest& request,
                               v1::ImageStatusResponse& response, const Call&) {
  if (request.image().image().empty()) return InvalidArgument("image: must not be empty");
  const auto image = images_.Find(request.image().image());
  if (!image) return Ok();  // absent is an answer, not an error
  ToCri(*image, response.mutable_image());
  if (request.verbose()) (*response.mutable_info())["info"] = Describe(*image);
  return Ok();
}

Result<void> ImageRpcs::Pull(const v1::PullImageRequest& request, v1::PullImageResponse& response,
                             const Call& call) {
  const oci::Reference reference =
      LN_TRY_CTX(oci::Reference::Parse(request.image().image()), "image");
  oci::PullOptions options;
  options.auth = AuthFrom(request.auth());
  if (call.deadline != Deadline::max()) options.deadline = call.deadline;
  options.stop = call.stop;
  response.set_image_ref(LN_TRY(images_.Pull(reference, options))->id.str());
  return Ok();
}

Result<void> ImageRpcs::Remove(const v1::RemoveImageRequest& request, v1::RemoveImageResponse&,
                               const Call&) {
  if (request.image().image().empty()) return InvalidArgument("image: must not be empty");
  return images_.Remove(request.image().image());
}

Result<void> ImageRpcs::FsInfo(const v1::ImageFsInfoRequest&, v1::ImageFsInfoResponse& response,
                               const Call&) {
  const std::int64_t now = SystemClock().WallNanos();
  ToCri(LN_TRY(images_.Usage()), now, response.add_image_filesystems());
  ToCri(LN_TRY(pods_.ContainerFsUsage()), now, response.add_container_filesystems());
  return Ok();
}

}  // namespace linnet::cri
