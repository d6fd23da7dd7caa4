#include "network_rpcs.h"

#include "convert/text.h"

namespace linnet::cri {
namespace {

namespace ext = ::linnet::v1;

const char* NameOf(network::AttachmentView::State state) {
  using State = network::AttachmentView::State;
  switch (state) {
    case State::kAttaching:
      return "attaching";
    case State::kAttached:
      return "attached";
    case State::kDetaching:
      return "detaching";
  }
  return "";
}

const char* NameOf(network::AddressView::Owner owner) {
  using Owner = network::AddressView::Owner;
  switch (owner) {
    case Owner::kAttached:
      return "attached";
    case Owner::kQuarantined:
      return "quarantined";
    case Owner::kOther:
      return "other";
    case Owner::kNobody:
      return "nobody";
  }
  return "";
}

const char* NameOf(network::Finding::Level level) {
  using Level = network::Finding::Level;
  switch (level) {
    case Level::kOk:
      return "ok";
    case Level::kWarning:
      return "warning";
    case Level::kProblem:
      return "problem";
  }
  return "";
}

void Add(ext::DoctorResponse& response, const network::Finding& finding) {
  ext::DoctorResponse::Finding& out = *response.add_findings();
  out.set_level(NameOf(finding.level));
  out.set_subject(Utf8(finding.subject));
  out.set_text(Utf8(finding.text));
}

network::Finding FeatureFinding(const char* name, bool there, const char* without) {
  using Level = network::Finding::Level;
  return there ? network::Finding{Level::kOk, name, "works"}
               : network::Finding{Level::kWarning, name,
                                  std::string("this kernel has none: ") + without};
}

}  // namespace

Result<void> DumpNetwork(network::Engine& engine, ext::NetworkDumpResponse& response) {
  const network::NetworkView view = LN_TRY(engine.View());
  response.set_network(view.network);
  response.set_source(Utf8(view.source));
  response.set_ready(view.ready);
  response.set_message(Utf8(view.message));
  response.set_pool_size(view.pool_size);
  response.set_pool_ready(view.pool_ready);
  response.set_pool_bytes_each(view.pool_bytes_each);
  for (const network::AttachmentView& a : view.attachments) {
    ext::NetworkDumpResponse::Attachment& out = *response.add_attachments();
    out.set_pod_id(a.pod);
    out.set_network(a.network);
    out.set_interface(a.interface_name);
    out.set_state(NameOf(a.state));
    out.set_netns(Utf8(a.netns));
    out.set_host_link(a.host_link);
    for (const std::string& address : a.addresses) out.add_addresses(address);
    for (const std::string& port : a.host_ports) out.add_host_ports(port);
    out.set_error(Utf8(a.error));
  }
  for (const network::TableSetView& set : view.sets) {
    ext::NetworkDumpResponse::Set& out = *response.add_sets();
    out.set_table(set.table);
    out.set_name(Utf8(set.name));
    for (const network::TableSetView::Element& e : set.elements) {
      ext::NetworkDumpResponse::Element& element = *out.add_elements();
      element.set_text(Utf8(e.text));
      element.set_owner(Utf8(e.owner));
    }
  }
  return Ok();
}

Result<void> CheckNetwork(network::Engine& engine, const ext::NetworkCheckRequest& request,
                          ext::NetworkCheckResponse& response) {
  std::vector<network::PodCheck> checks;
  if (request.pod_id().empty()) {
    checks = engine.CheckAll();
  } else {
    const PodId pod = LN_TRY_CTX(PodId::Parse(request.pod_id()), "pod_id");
    const auto attachment = engine.Find(pod);
    if (!attachment) return NotFound("pod " + pod.str() + " is attached to no network");
    auto done = engine.Check(pod);
    checks.push_back({.pod = pod.str(),
                      .network = attachment->network,
                      .error = done ? std::string() : done.error().message()});
  }
  for (const network::PodCheck& check : checks) {
    ext::NetworkCheckResponse::Pod& out = *response.add_pods();
    out.set_pod_id(check.pod);
    out.set_network(check.network);
    out.set_error(Utf8(check.error));
  }
  return Ok();
}

Result<void> CollectNetworkGarbage(network::Engine& engine, ext::NetworkGcResponse& response) {
  for (const std::string& what : LN_TRY(engine.CollectGarbage())) response.add_removed(Utf8(what));
  return Ok();
}

Result<void> ListNetworkAddresses(network::Engine& engine, ext::ListAddressesResponse& response) {
  for (const network::AddressView& a : LN_TRY(engine.Addresses())) {
    ext::ListAddressesResponse::Address& out = *response.add_addresses();
    out.set_network(Utf8(a.network));
    out.set_address(a.address);
    out.set_container_id(Utf8(a.container));
    out.set_interface(Utf8(a.interface_name));
    out.set_state(NameOf(a.owner));
  }
  return Ok();
}

void Diagnose(network::Engine& engine, const runtime::Runtime::Features& features,
              ext::DoctorResponse& response) {
  using Level = network::Finding::Level;
  Add(response, {Level::kOk, "cgroups", features.cgroup_layout});
  Add(response, FeatureFinding("seccomp", features.seccomp,
                               "containers run without a filter of system calls"));
  Add(response, FeatureFinding("user namespaces", features.user_namespaces,
                               "pods that ask for one are refused"));
  Add(response, FeatureFinding("recursive read-only mounts", features.recursive_read_only,
                               "containers that ask for them are refused"));
  const std::string modules = std::string(features.apparmor ? "AppArmor" : "") +
                              (features.apparmor && features.selinux ? " and " : "") +
                              (features.selinux ? "SELinux" : "");
  Add(response, {Level::kOk, "security modules", modules.empty() ? "none" : modules});
  for (const network::Finding& finding : engine.Diagnose()) Add(response, finding);
}

}  // namespace linnet::cri
