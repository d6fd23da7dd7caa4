// Notices what others do to linnet's tables: `nft flush ruleset`, a restart of nftables, a reload
// of firewalld.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "linnet/base/result.h"

namespace linnet::network {

// One thread ("ln-nftwatch"), woken by the kernel's notifications. Pods that come do not wake it.
class NftWatcher {
 public:
  enum class What : std::uint8_t {
    kOurs,    // somebody else deleted of a table of ours, or notifications were lost
    kFilter,  // somebody changed chains or rules of iptables' table "filter"
  };
  // `table`: our name in the families inet and bridge. `own_port` says which socket's deeds are our
  // own. `changed` is called on the thread: at once for the first of a burst, then at most every
  // `pause`, and once more after the last.
  static Result<std::unique_ptr<NftWatcher>> Create(std::string table,
                                                    std::function<std::uint32_t()> own_port,
                                                    std::function<void(What)> changed);
  NftWatcher(const NftWatcher&) = delete;
  NftWatcher& operator=(const NftWatcher&) = delete;
  ~NftWatcher();

 private:
  struct State;
  explicit NftWatcher(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace linnet::network
