// What went wrong at each host, and the one error that is made of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "linnet/base/result.h"

#include "registry/http.h"

namespace linnet::oci {

// The error of an exchange that did not bring what was asked for. `what` is "manifest" or "blob".
Error FailureOf(const HttpResult& result, std::string_view what);

class Failures {
 public:
  // `subject` is the image or the blob, as messages name it.
  explicit Failures(std::string subject) : subject_(std::move(subject)) {}
  enum class Answer : std::uint8_t { kNone, kSome };
  void Add(const std::string& host, Error error, Answer answer);
  // Of the last host that answered, with what the others said behind it. Where none answered:
  // "RegistryUnavailable: …".
  Error Final() const;

 private:
  struct Entry {
    std::string host;
    Error error;
    Answer answer;
  };
  std::string subject_;
  std::vector<Entry> entries_;
};

}  // namespace linnet::oci
