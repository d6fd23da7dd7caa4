// Errors of the specification, as values and as JSON. The one place that converts between them and
// Code.
#pragma once

#include <string>
#include <string_view>

#include "cni/result.h"

namespace linnet::network::cni {

// What a plugin prints when it fails: code, message and details in one Error ("msg; details").
// nullopt: it is no such JSON.
std::optional<Error> ParseError(std::string_view json);
// `error` as a plugin prints it: four blanks of indentation, with cniVersion.
std::string DumpError(const Error& error, std::string_view cni_version);
// The error's own code where it came from CNI; else 7 for bad input, 11 where a retry may help,
// 999.
int CodeOf(const Error& error);

}  // namespace linnet::network::cni
