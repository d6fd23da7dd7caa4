// The handlers of linnet.v1.Linnet that are about the network: parse, call the engine, convert.
#pragma once

#include "linnet/base/result.h"
#include "linnet/network/engine.h"
#include "linnet/runtime/runtime.h"

#include "linnet.pb.h"

namespace linnet::cri {

Result<void> DumpNetwork(network::Engine& engine, ::linnet::v1::NetworkDumpResponse& response);
// Errors: kNotFound the pod has no network of its own.
Result<void> CheckNetwork(network::Engine& engine, const ::linnet::v1::NetworkCheckRequest& request,
                          ::linnet::v1::NetworkCheckResponse& response);
Result<void> CollectNetworkGarbage(network::Engine& engine,
                                   ::linnet::v1::NetworkGcResponse& response);
Result<void> ListNetworkAddresses(network::Engine& engine,
                                  ::linnet::v1::ListAddressesResponse& response);
void Diagnose(network::Engine& engine, const runtime::Runtime::Features& features,
              ::linnet::v1::DoctorResponse& response);

}  // namespace linnet::cri
