// WWW-Authenticate headers (RFC 7235): what a registry wants to see before it answers.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace linnet::oci {

struct Challenge {
  std::string scheme;                         // lower case: "bearer", "basic"
  std::map<std::string, std::string> params;  // names in lower case
};

// All challenges of all header values, in order. Never fails: what is not understood is left out.
std::vector<Challenge> ParseChallenges(const std::vector<std::string>& header_values);

}  // namespace linnet::oci
