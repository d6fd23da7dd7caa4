// JSON documents of images and bundles: bytes that strangers wrote.
#pragma once

#include <initializer_list>
#include <string_view>

#include "linnet/base/json_view.h"

namespace linnet::oci {

// Parses an object. Refused: a NUL in any string or key (it would cut the text where a system call
// reads it) and text that is not UTF-8.
Result<Json> ParseDocument(std::string_view text, std::size_t max_bytes);

// Refuses members whose names differ from one of `names` by case only: readers that ignore case
// would see another document than we do.
Result<void> RejectCaseVariants(const JsonView& object,
                                std::initializer_list<std::string_view> names);

}  // namespace linnet::oci
