// The calls of linnet.v1.Linnet that are about images.
#pragma once

#include <string>

#include <grpcpp/grpcpp.h>

#include "linnet/base/result.h"
#include "linnet/oci/image_admin.h"
#include "linnet/oci/image_store.h"

#include "linnet.grpc.pb.h"
#include "serve.h"

namespace linnet::cri {

namespace ext = ::linnet::v1;

// Thread-safe. The reactors delete themselves when gRPC is done with them.
class ImageCalls {
 public:
  ImageCalls(Edge& edge, oci::ImageStore& images, std::string preload_dir)
      : edge_(edge), images_(images), preload_dir_(std::move(preload_dir)) {}

  grpc::ServerReadReactor<ext::ImportImageRequest>* Import(grpc::CallbackServerContext* context,
                                                           ext::ImportImageResponse& response);
  grpc::ServerWriteReactor<ext::SaveImagesPart>* Save(grpc::CallbackServerContext* context,
                                                      const ext::SaveImagesRequest& request);
  grpc::ServerWriteReactor<ext::CheckImagesPart>* Check(grpc::CallbackServerContext* context,
                                                        const ext::CheckImagesRequest& request);

  Result<void> Tag(const ext::TagImageRequest& request, ext::TagImageResponse& response);
  Result<void> Pin(const ext::PinImageRequest& request, ext::PinImageResponse& response);
  Result<void> Inspect(const ext::InspectImageRequest& request,
                       ext::InspectImageResponse& response);
  Result<void> Use(ext::DiskUseResponse& response);
  Result<void> Prune(const ext::PruneImagesRequest& request, ext::PruneImagesResponse& response);
  Result<void> Mount(const ext::MountImageRequest& request, ext::ImageMount& response);
  Result<void> Unmount(const ext::UnmountImageRequest& request, ext::ImageMounts& response);
  Result<void> Mounts(ext::ImageMounts& response);
  Result<void> Preload(const ext::PreloadRequest& request, ext::PreloadResponse& response,
                       const Call& call);

 private:
  Result<oci::ImageAdmin*> Admin() const;

  Edge& edge_;
  oci::ImageStore& images_;
  const std::string preload_dir_;
};

}  // namespace linnet::cri
