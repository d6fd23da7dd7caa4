// One nftables transaction: messages between BATCH_BEGIN and BATCH_END. Pure: nothing is sent here.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct nlmsghdr;
struct nftnl_rule;

namespace linnet::network {

// Families as nfgenmsg has them. kIpv4 and kIpv6: iptables' tables, where linnet has rules but no
// table.
enum class NftFamily : std::uint8_t { kInet = 1, kIpv4 = 2, kBridge = 7, kIpv6 = 10 };

struct NftTableName {
  NftFamily family = NftFamily::kInet;
  std::string name;
};

struct NftChainSpec {
  std::string name;
  // Base chains.
  std::string type;  // "filter" "nat"; empty: a regular chain
  std::uint32_t hook = 0;
  std::int32_t priority = 0;
};

// `key_type` and `data_type` are what libnftables calls its data types, 6 bits for each field of a
// concatenation: the kernel does not look at them, `nft list` does.
struct NftSetSpec {
  std::string name;
  std::uint32_t key_type = 0, key_length = 0;
  std::uint32_t data_type = 0, data_length = 0;  // maps
  bool host_order = false;                       // of the key: names of interfaces
  bool is_map() const { return data_length != 0; }
};

// Bytes as the kernel compares them: each field padded to 4.
struct NftElement {
  std::string set;
  NftFamily family = NftFamily::kInet;
  std::string key;
  std::string data;  // of maps
  auto operator<=>(const NftElement&) const = default;
};

class NftBatch {
 public:
  // With a generation id the kernel refuses the whole batch (ERESTART) if anybody changed the
  // ruleset since.
  explicit NftBatch(std::optional<std::uint32_t> generation = std::nullopt);

  void AddTable(const NftTableName& table);
  void DelTable(const NftTableName& table);
  void AddChain(const NftTableName& table, const NftChainSpec& chain);
  void AddSet(const NftTableName& table, const NftSetSpec& set);
  enum class Place : std::uint8_t { kLast, kFirst };  // in its chain
  void AddRule(const NftTableName& table, nftnl_rule* rule, const std::string& what,
               Place place = Place::kLast);
  void DelRule(const NftTableName& table, const std::string& chain, std::uint64_t handle);
  // `comment` is shown by `nft list`; at most 127 bytes.
  void AddElement(const std::string& table, const NftElement& element, std::string_view comment);
  void DelElement(const std::string& table, const NftElement& element);

  bool empty() const { return messages_.size() <= 1; }
  // Ends the batch; the last message before the end asks for an acknowledgement. No more messages
  // after it.
  void Finish(std::uint32_t first_sequence);
  std::string_view bytes() const { return {buffer_.data(), end_}; }
  // Messages including begin, without end: position i has sequence first + i.
  std::size_t message_count() const { return messages_.size(); }
  const std::string& what(std::size_t position) const { return messages_[position].what; }

 private:
  nlmsghdr* Begin(std::uint16_t type, NftFamily family, std::uint16_t flags, std::string what);
  void Close();
  void PutElement(nlmsghdr* message, const std::string& table, const NftElement& element,
                  std::string_view comment);
  struct Message {
    std::size_t offset;
    std::string what;
  };
  std::vector<char> buffer_;
  std::vector<Message> messages_;
  std::size_t end_ = 0;
};

}  // namespace linnet::network
