// Images.
#pragma once

#include "call.h"
#include "cri.pb.h"

namespace linnet::cri {

namespace v1 = ::runtime::v1;

class ImageRpcs {
 public:
  ImageRpcs(oci::ImageStore& images, pods::PodManager& pods) : images_(images), pods_(pods) {}
  Result<void> List(const v1::ListImagesRequest& request, v1::ListImagesResponse& response,
                    const Call& call);
  Result<void> Status(const v1::ImageStatusRequest& request, v1::ImageStatusResponse& response,
                      const Call& call);
  Result<void> Pull(const v1::PullImageRequest& request, v1::PullImageResponse& response,
                    const Call& call);
  Result<void> Remove(const v1::RemoveImageRequest& request, v1::RemoveImageResponse& response,
                      const Call& call);
  Result<void> FsInfo(const v1::ImageFsInfoRequest& request, v1::ImageFsInfoResponse& response,
                      const Call& call);

 private:
  oci::ImageStore& images_;
  pods::PodManager& pods_;
};

}  // namespace linnet::cri
