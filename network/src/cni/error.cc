#include "cni/error.h"

namespace linnet::network::cni {
namespace {

Code CodeFromCni(int code) {
  switch (static_cast<ErrorCode>(code)) {
    case ErrorCode::kIncompatibleVersion:
    case ErrorCode::kUnsupportedField:
      return Code::kFailedPrecondition;
    case ErrorCode::kUnknownContainer:
      return Code::kNotFound;
    case ErrorCode::kInvalidEnvironment:
    case ErrorCode::kDecode:
    case ErrorCode::kInvalidConfig:
    case ErrorCode::kInvalidNetns:
      return Code::kInvalidArgument;
    case ErrorCode::kTryAgainLater:
    case ErrorCode::kNotAvailable:
    case ErrorCode::kLimitedConnectivity:
      return Code::kUnavailable;
    default:
      return Code::kInternal;
  }
}

}  // namespace

Error CniError(ErrorCode code, std::string message) {
  const int value = static_cast<int>(code);
  return {CodeFromCni(value), Origin::kCni, value, std::move(message)};
}

int CodeOf(const Error& error) {
  if (error.origin() == Origin::kCni && error.value() > 0) return error.value();
  switch (error.code()) {
    case Code::kInvalidArgument:
      return static_cast<int>(ErrorCode::kInvalidConfig);
    case Code::kUnavailable:
    case Code::kResourceExhausted:
    case Code::kDeadlineExceeded:
      return static_cast<int>(ErrorCode::kTryAgainLater);
    default:
      return static_cast<int>(ErrorCode::kInternal);
  }
}

std::optional<Error> ParseError(std::string_view json) {
  const auto document = ParseJson(json);
  if (!document || !document->is_object()) return std::nullopt;
  const JsonView view(*document, "$", KeyMatch::kIgnoreCase);
  const auto code = view.Optional<std::int32_t>("code", 0);
  const auto message = view.Optional<std::string>("msg", "");
  const auto details = view.Optional<std::string>("details", "");
  if (!code || !message || !details || (message->empty() && *code == 0)) return std::nullopt;
  return Error(CodeFromCni(*code), Origin::kCni, *code,
               details->empty() ? *message : *message + "; " + *details);
}

std::string DumpError(const Error& error, std::string_view cni_version) {
  Json out = {{"code", CodeOf(error)}, {"msg", error.message()}};
  if (!cni_version.empty()) out["cniVersion"] = std::string(cni_version);
  return DumpJson(out, 4);
}

}  // namespace linnet::network::cni
