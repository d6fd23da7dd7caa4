// Which entry of an index suits a machine.
#pragma once

#include <string>
#include <string_view>

#include "linnet/oci/image_spec.h"

namespace linnet::oci {

// Provenance and signatures travel as entries of platform unknown/unknown: never an image.
bool IsAttestation(const Descriptor& entry);

// "v7", "v6" for arm; the newest of "v1" … "v4" that this processor can run for amd64; "v8" for
// arm64; else "".
std::string MachineVariantOf(std::string_view architecture);

// 0: cannot run here. The greater, the better. `variant` is the machine's.
int PlatformRank(const Descriptor& entry, std::string_view os, std::string_view architecture,
                 std::string_view variant);

// "linux/arm/v7"
std::string PlatformName(const Descriptor& entry);

}  // namespace linnet::oci
