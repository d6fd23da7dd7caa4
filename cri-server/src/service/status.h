// The one mapping from Error to gRPC's status.
#pragma once

#include <grpcpp/support/status.h>

#include "linnet/base/result.h"

namespace linnet::cri {

grpc::StatusCode StatusCodeOf(Code code);
// The message becomes valid UTF-8 of bounded length: it travels in a header.
grpc::Status StatusOf(const Error& error);

}  // namespace linnet::cri
