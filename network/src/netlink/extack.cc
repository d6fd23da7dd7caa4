#include "netlink/extack.h"

#include <linux/netlink.h>

#include <cstring>
#include <string>

#include <libmnl/libmnl.h>

namespace linnet::network {
namespace {

int FindText(const nlattr* attribute, void* data) {
  if (mnl_attr_get_type(attribute) != NLMSGERR_ATTR_MSG) return MNL_CB_OK;
  const char* text = static_cast<const char*>(mnl_attr_get_payload(attribute));
  static_cast<std::string*>(data)->assign(text,
                                          ::strnlen(text, mnl_attr_get_payload_len(attribute)));
  return MNL_CB_STOP;
}

}  // namespace

std::optional<Error> ErrorOfAnswer(const nlmsghdr* message, std::string_view what) {
  const bool done = message->nlmsg_type == NLMSG_DONE;
  const std::size_t fixed = done ? sizeof(int) : sizeof(nlmsgerr);
  int value = 0;
  if (message->nlmsg_len < NLMSG_HDRLEN + (done ? 0 : fixed))
    return Internal("the kernel's answer is too short");
  if (message->nlmsg_len >= NLMSG_HDRLEN + sizeof(int)) {
    std::memcpy(&value, mnl_nlmsg_get_payload(message), sizeof(value));
  }
  if (value >= 0) return std::nullopt;
  std::string text;
  if ((message->nlmsg_flags & NLM_F_ACK_TLVS) != 0) {
    // Sockets ask for NETLINK_CAP_ACK: the request is not repeated, attributes follow the fixed
    // part.
    mnl_attr_parse(message, static_cast<unsigned>(fixed), FindText, &text);
  }
  std::string context(what);
  if (!text.empty()) context += " (" + text + ")";
  return Error::FromErrno(-value, context);
}

}  // namespace linnet::network
