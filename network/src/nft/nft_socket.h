// A NETLINK_NETFILTER socket for nftables: transactions and questions.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "nft/nft_batch.h"

struct nlattr;

namespace linnet::network {

struct OwnedElement {
  NftElement element;
  std::string owner;  // its comment
};

struct ListedRule {
  std::uint64_t handle = 0;
  std::string signature;  // RuleSignature (nft/rule_builder.h)
};

// Thread-compatible. Acts on the namespace that it was opened in.
class NftSocket {
 public:
  static Result<NftSocket> Open();
  // What the kernel calls this socket in notifications; 0 before anything was sent.
  std::uint32_t port_id() const;
  // All or nothing. Errors carry the errno: ERESTART the generation is stale; ENOENT a table, set
  // or element is missing.
  Result<void> Commit(NftBatch& batch);
  // Counts every commit of anybody in this namespace.
  Result<std::uint32_t> Generation();
  // A number that no other table gets, or nullopt where there is no such table.
  Result<std::optional<std::uint64_t>> TableHandle(const NftTableName& table);
  // Names of a family's tables.
  Result<std::vector<std::string>> ListTables(NftFamily family);
  Result<std::vector<std::string>> ListSets(const NftTableName& table);
  Result<std::vector<OwnedElement>> ListElements(const NftTableName& table, const std::string& set);
  Result<std::optional<OwnedElement>> FindElement(const std::string& table, const NftElement& key);
  // A base chain whose policy is "drop". No such chain: no.
  Result<bool> ChainDrops(const NftTableName& table, const std::string& chain);
  Result<bool> HasChain(const NftTableName& table, const std::string& chain);
  // No such chain: empty.
  Result<std::vector<ListedRule>> ListRules(const NftTableName& table, const std::string& chain);
  // User data of the rules of a chain.
  Result<std::vector<std::string>> ListRuleData(const NftTableName& table,
                                                const std::string& chain);

 private:
  explicit NftSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  using Use = std::function<void(const nlmsghdr*)>;
  Result<void> Ask(int type, std::uint8_t family, bool dump, const std::string& what,
                   const std::function<void(nlmsghdr*)>& fill, const Use& use);
  Result<void> Receive(std::uint32_t first, std::size_t count,
                       const std::function<std::string(std::size_t)>& what, const Use& use);
  UniqueFd fd_;
  std::uint32_t sequence_ = 1;
  std::size_t send_buffer_ = 0;
};

}  // namespace linnet::network
