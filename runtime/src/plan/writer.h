// Writes a launch plan (daemon side). Not in the keeper.
//
//   plan::Writer w;
//   plan::ContainerPlan c;
//   c.process.args = w.Texts(argv);
//   c.process.cwd = w.Add(cwd);
//   c.exit_dir = w.AddFd(exit_dir);                       // borrowed until the command is sent
//   ops.push_back({.kind = plan::OpKind::kMask, .target = w.Add("/proc/kcore")});
//   c.ops = w.Items(ops);
//   std::string bytes = LN_TRY(w.Finish(c));              // inline in the message, or SealedMemfd
//   w.fds()                                               // descriptors in the order of their
//   indexes
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "plan/plan.h"

namespace linnet::runtime::plan {

class Writer {
 public:
  Writer();

  // An empty text is absent. A text with a NUL inside makes Finish() fail with kInvalidArgument.
  Text Add(std::string_view text);
  List Texts(const std::vector<std::string>& texts);
  template <class T>
  List Items(const std::vector<T>& items) {
    static_assert(std::is_trivially_copyable_v<T>);
    return AddItems(items.data(), sizeof(T), items.size());
  }
  // Lends a descriptor: it stays open until the command was sent. Invalid: kNoFd.
  FdIndex AddFd(FdRef fd);
  // The same, kept open by the writer.
  FdIndex AddFd(UniqueFd fd);
  List Fds(const std::vector<UniqueFd>& fds);  // each lent

  // Completes the plan and checks it with Reader. Errors: kInvalidArgument (NUL in a text, too
  // large), kInternal.
  Result<std::string> Finish(const PodPlan& body);
  Result<std::string> Finish(const ContainerPlan& body);
  Result<std::string> Finish(const ExecPlan& body);

  const std::vector<FdRef>& fds() const { return fds_; }

 private:
  List AddItems(const void* data, std::size_t item_size, std::size_t count);
  std::uint32_t Append(const void* data, std::size_t size, std::size_t alignment);
  template <class T>
  Result<std::string> FinishWith(const T& body, Kind kind);

  std::string buffer_;
  std::vector<FdRef> fds_;
  std::vector<UniqueFd> kept_;
  bool text_with_nul_ = false;
};

}  // namespace linnet::runtime::plan
