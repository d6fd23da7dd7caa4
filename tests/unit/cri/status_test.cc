#include "service/status.h"

#include <gtest/gtest.h>

namespace linnet::cri {
namespace {

TEST(Status, EveryCode_HasItsNamesake) {
  using enum Code;
  EXPECT_EQ(StatusCodeOf(kInvalidArgument), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(StatusCodeOf(kNotFound), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(StatusCodeOf(kAlreadyExists), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(StatusCodeOf(kFailedPrecondition), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(StatusCodeOf(kPermissionDenied), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(StatusCodeOf(kResourceExhausted), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(StatusCodeOf(kDeadlineExceeded), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(StatusCodeOf(kCancelled), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(StatusCodeOf(kUnavailable), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(StatusCodeOf(kUnimplemented), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(StatusCodeOf(kDataLoss), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(StatusCodeOf(kInternal), grpc::StatusCode::INTERNAL);
}

TEST(Status, RegistryUnavailable_ReachesKubeletUnwrapped) {
  const grpc::Status status = StatusOf(Unavailable("RegistryUnavailable: no host answered"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNKNOWN);
  EXPECT_TRUE(status.error_message().starts_with("RegistryUnavailable"));
  EXPECT_EQ(StatusOf(Unavailable("network: RegistryUnavailable")).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST(Status, Message_IsUtf8AndBounded) {
  const grpc::Status status = StatusOf(Internal("\xff" + std::string(100000, 'x')));
  EXPECT_TRUE(status.error_message().starts_with("\xEF\xBF\xBDxxx"));
  EXPECT_LE(status.error_message().size(), 2048U);
}

}  // namespace
}  // namespace linnet::cri
