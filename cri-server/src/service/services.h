// The gRPC services: which RPC goes where. What is not named in them answers Unimplemented.
#pragma once

#include <memory>

#include "call.h"
#include "node.h"

namespace grpc {
class Service;
}

namespace linnet::cri {

class Edge;
namespace streaming {
class Tickets;
}

// All arguments must outlive the service.
std::unique_ptr<grpc::Service> MakeRuntimeService(Edge& edge, const Node& node,
                                                  pods::PodManager& pods, network::Engine& network,
                                                  streaming::Tickets& tickets);
std::unique_ptr<grpc::Service> MakeImageService(Edge& edge, oci::ImageStore& images,
                                                pods::PodManager& pods);
std::unique_ptr<grpc::Service> MakeLinnetService(Edge& edge, const Node& node,
                                                 pods::PodManager& pods, network::Engine& network,
                                                 oci::ImageStore& images);

}  // namespace linnet::cri
