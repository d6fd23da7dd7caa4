#include "cri.grpc.pb.h"
#include "image_rpcs.h"
#include "list_stream.h"
#include "serve.h"
#include "services.h"

namespace linnet::cri {
namespace {

using Context = grpc::CallbackServerContext;
using Reactor = grpc::ServerUnaryReactor;

class ImageService final : public v1::ImageService::CallbackService {
 public:
  ImageService(Edge& edge, oci::ImageStore& images, pods::PodManager& pods)
      : edge_(edge), images_(images, pods) {}

  Reactor* ListImages(Context* c, const v1::ListImagesRequest* q,
                      v1::ListImagesResponse* r) override {
    return Do(c, {"ListImages"}, *q, *r, &ImageRpcs::List);
  }
  grpc::ServerWriteReactor<v1::StreamImagesResponse>* StreamImages(
      Context* c, const v1::StreamImagesRequest* q) override {
    v1::ListImagesRequest list;
    *list.mutable_filter() = q->filter();
    return ServeList<v1::StreamImagesResponse, v1::ListImagesResponse, v1::Image>(
        edge_, c, {"StreamImages"},
        [&](auto& r, const Call& call) { return images_.List(list, r, call); },
        &v1::ListImagesResponse::mutable_images,
        [](v1::StreamImagesResponse& r) { return r.mutable_images(); });
  }
  Reactor* ImageStatus(Context* c, const v1::ImageStatusRequest* q,
                       v1::ImageStatusResponse* r) override {
    return Do(c, {"ImageStatus"}, *q, *r, &ImageRpcs::Status);
  }
  Reactor* PullImage(Context* c, const v1::PullImageRequest* q, v1::PullImageResponse* r) override {
    return Do(c, {"PullImage", Where::kWait, true}, *q, *r, &ImageRpcs::Pull);
  }
  Reactor* RemoveImage(Context* c, const v1::RemoveImageRequest* q,
                       v1::RemoveImageResponse* r) override {
    return Do(c, {"RemoveImage", Where::kShort, true}, *q, *r, &ImageRpcs::Remove);
  }
  Reactor* ImageFsInfo(Context* c, const v1::ImageFsInfoRequest* q,
                       v1::ImageFsInfoResponse* r) override {
    return Do(c, {"ImageFsInfo", Where::kShort}, *q, *r, &ImageRpcs::FsInfo);
  }

 private:
  template <class Request, class Response>
  Reactor* Do(Context* context, const Method& method, const Request& request, Response& response,
              Result<void> (ImageRpcs::*rpc)(const Request&, Response&, const Call&)) {
    return edge_.Serve(
        context, method, [&request, &response] { return SubjectOf(request, response); },
        [this, &request, &response, rpc](const Call& call) {
          return (images_.*rpc)(request, response, call);
        });
  }

  Edge& edge_;
  ImageRpcs images_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeImageService(Edge& edge, oci::ImageStore& images,
                                                pods::PodManager& pods) {
  return std::make_unique<ImageService>(edge, images, pods);
}

}  // namespace linnet::cri
