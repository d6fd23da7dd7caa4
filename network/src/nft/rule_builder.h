// Rules as the kernel executes them, with the names that nft(8) gives to the parts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "nft/nft_batch.h"

struct nftnl_expr;

namespace linnet::network {

// Registers are counted in words of 4 bytes (NFT_REG32_00 + n): a concatenation lies in consecutive
// ones.
class RuleBuilder {
 public:
  RuleBuilder(NftFamily family, std::string chain, std::string what);
  RuleBuilder(RuleBuilder&&) noexcept = default;
  RuleBuilder& operator=(RuleBuilder&&) noexcept = default;
  ~RuleBuilder() = default;

  enum class Match : std::uint8_t { kEqual, kUnequal };

  // --- loads
  RuleBuilder& LoadMeta(std::uint32_t key, std::uint32_t word = 0);
  RuleBuilder& LoadPayload(std::uint32_t base, std::uint32_t offset, std::uint32_t length,
                           std::uint32_t word = 0);
  // --- comparisons of word 0 on
  RuleBuilder& Compare(std::string_view bytes, Match match = Match::kEqual);
  RuleBuilder& Mask(std::string_view mask);
  RuleBuilder& InSet(const std::string& set, Match match = Match::kEqual);
  // The element's data replaces the key, from word 0 on.
  RuleBuilder& MapTo(const std::string& map);
  // --- whole matches
  RuleBuilder& NfProto(std::uint8_t family);  // meta nfproto
  RuleBuilder& L4Proto(std::uint8_t protocol, Match match = Match::kEqual);
  RuleBuilder& EtherType(std::uint16_t type);  // of the frame itself: a VLAN tag shows
  RuleBuilder& ThByte(std::uint32_t offset, std::uint8_t value);   // icmp type
  RuleBuilder& ThWord(std::uint32_t offset, std::uint16_t value);  // ports
  RuleBuilder& DestinationIsLocal();                               // fib daddr type local
  RuleBuilder& CtStatus(std::uint32_t bits,
                        Match match);  // kUnequal: some bit is set; kEqual: none is
  RuleBuilder& CtState(std::uint32_t bits, Match match);
  // What iptables' extensions match, as iptables-nft writes it and reads it back.
  RuleBuilder& XtMatch(const std::string& name, std::uint32_t revision, std::string info);
  RuleBuilder& XtComment(const std::string& text);
  RuleBuilder& XtEstablished();  // -m conntrack --ctstate RELATED,ESTABLISHED
  // --- ends
  RuleBuilder& Verdict(int code, const std::string& chain = {});
  RuleBuilder& Dnat(std::uint8_t family, std::uint32_t address_word, std::uint32_t port_word);
  RuleBuilder& Counter();
  RuleBuilder& Masquerade(bool fully_random);
  // Seen by `nft list`.
  RuleBuilder& Comment(const std::string& text);

  nftnl_rule* get() { return rule_.get(); }
  NftFamily family() const { return family_; }
  const std::string& what() const { return what_; }

 private:
  RuleBuilder& Ct(std::uint32_t key, std::uint32_t bits, Match match);
  nftnl_expr* Expression(const char* name);
  struct Free {
    void operator()(nftnl_rule* rule) const;
  };
  NftFamily family_;
  std::string what_;
  std::unique_ptr<nftnl_rule, Free> rule_;
};

// What a rule does, without counters, registers and user data: equal for the rule that was built
// and for what the kernel says of it, whichever program put it there.
std::string RuleSignature(const nftnl_rule* rule);

}  // namespace linnet::network
