#include "nft/conditions.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>

#include "linnet/base/text.h"

#include "nft/rule_builder.h"

namespace linnet::network {
namespace {

using Kind = Condition::Kind;

constexpr std::string_view kSeparator = "_.";
constexpr std::size_t kMostName = 200;  // the kernel takes 255
constexpr std::size_t kMaxLinkName = 15;

Error NotPossible(const std::string& word) {
  return {Code::kUnimplemented,
          "condition \"" + word +
              "\" is not possible here (source, destination and interface are); list portmap in "
              "network.prefer_external to have it from upstream's plugin"};
}

// Takes the words one by one.
class Words {
 public:
  Words(const std::vector<std::string>& words, Family family) : family_(family) {
    // One string may hold several.
    for (const std::string& word : words) {
      for (std::string& part : SplitFields(word)) words_.push_back(std::move(part));
    }
  }
  bool done() const { return at_ == words_.size(); }
  std::string Take() { return done() ? std::string() : words_[at_++]; }
  bool TakeIf(std::string_view word) {
    if (done() || words_[at_] != word) return false;
    ++at_;
    return true;
  }

  Result<Condition> Finish(Kind kind, bool negated) {
    Condition out{.kind = kind, .negated = negated, .interface = {}};
    std::string value = Take();
    if (value.empty()) return InvalidArgument("a condition ends early");
    if (value.size() > 1 && value.front() == '"' && value.back() == '"')
      value = value.substr(1, value.size() - 2);
    if (kind == Kind::kInterface) {
      const bool plain = std::all_of(value.begin(), value.end(), [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_';
      });
      if (!plain || value.size() > kMaxLinkName) return NotPossible(value);
      out.interface = value;
      return out;
    }
    if (value.find('/') == std::string::npos) value += family_ == Family::kV4 ? "/32" : "/128";
    out.subnet = LN_TRY_CTX(Cidr::Parse(value), "condition").Network();
    if (out.subnet.family() != family_)
      return InvalidArgument("condition " + value + " is of the other family");
    return out;
  }

 private:
  const Family family_;
  std::vector<std::string> words_;
  std::size_t at_ = 0;
};

std::optional<Kind> OptionOf(const std::string& word) {
  if (word == "-s" || word == "--source" || word == "--src") return Kind::kSource;
  if (word == "-d" || word == "--destination" || word == "--dst") return Kind::kDestination;
  if (word == "-i" || word == "--in-interface") return Kind::kInterface;
  return std::nullopt;
}

Result<Condition> TakeOne(Words& words, Family family) {
  const bool before = words.TakeIf("!");
  const std::string word = words.Take();
  if (const auto kind = OptionOf(word)) return words.Finish(*kind, before);
  if (before) return NotPossible("! " + word);
  std::optional<Kind> kind;
  std::string said = word;
  if (word == "ip" || word == "ip6") {
    const std::string field = words.Take();
    said += " " + field;
    const bool right = word == (family == Family::kV4 ? "ip" : "ip6");
    if (right && field == "saddr") kind = Kind::kSource;
    if (right && field == "daddr") kind = Kind::kDestination;
  } else if (word == "iifname" || word == "iif") {
    kind = Kind::kInterface;
  }
  if (!kind) return NotPossible(said);
  const bool negated = words.TakeIf("!=");
  if (!negated) (void)words.TakeIf("==");
  return words.Finish(*kind, negated);
}

char LetterOf(Kind kind) {
  return kind == Kind::kSource ? 's' : kind == Kind::kDestination ? 'd' : 'i';
}

// "_" in names of interfaces: else a separator might be read in one.
std::string Escape(const std::string& text) {
  std::string out;
  for (const char c : text) c == '_' ? out += "_u" : out += c;
  return out;
}
std::string Unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    if (text[i] == '_' && i + 1 < text.size() && text[i + 1] == 'u') ++i;
  }
  return out;
}

std::string MaskOf(const Cidr& subnet) {
  std::string mask(subnet.address().bytes().size(), '\0');
  for (int i = 0; i < subnet.prefix(); ++i) {
    auto& byte = mask[static_cast<std::size_t>(i / 8)];
    byte = static_cast<char>(static_cast<unsigned char>(byte) | (0x80U >> (i % 8)));
  }
  return mask;
}

}  // namespace

Result<Conditions> ParseConditions(const std::vector<std::string>& words, Family family) {
  Words left(words, family);
  Conditions out;
  while (!left.done()) out.push_back(LN_TRY(TakeOne(left, family)));
  return out;
}

Result<std::string> NameOf(const Conditions& conditions) {
  std::string out;
  for (const Condition& c : conditions) {
    out += kSeparator;
    out += LetterOf(c.kind);
    if (c.negated)
      out += 'n';
    else
      out += 'y';
    std::string value = c.kind == Kind::kInterface ? Escape(c.interface) : c.subnet.str();
    if (c.kind != Kind::kInterface) std::replace(value.begin(), value.end(), ':', '-');
    out += value;
  }
  if (out.size() > kMostName) return InvalidArgument("too many conditions of host ports");
  return out;
}

std::optional<Conditions> ConditionsOf(std::string_view name) {
  auto at = name.find(kSeparator);
  if (at == std::string_view::npos) return std::nullopt;
  Conditions out;
  while (at != std::string_view::npos) {
    name.remove_prefix(at + kSeparator.size());
    at = name.find(kSeparator);
    const std::string_view item = name.substr(0, at);
    if (item.size() < 3) return std::nullopt;
    Condition c{.kind = item[0] == 's'   ? Kind::kSource
                        : item[0] == 'd' ? Kind::kDestination
                                         : Kind::kInterface,
                .negated = item[1] == 'n',
                .interface = {}};
    if (c.kind == Kind::kInterface) {
      c.interface = Unescape(item.substr(2));
    } else {
      std::string value(item.substr(2));
      std::replace(value.begin(), value.end(), '-', ':');
      const auto subnet = Cidr::Parse(value);
      if (!subnet) return std::nullopt;
      c.subnet = *subnet;
    }
    out.push_back(std::move(c));
  }
  return out;
}

void AddTo(RuleBuilder& rule, const Conditions& conditions) {
  for (const Condition& c : conditions) {
    const auto match = c.negated ? RuleBuilder::Match::kUnequal : RuleBuilder::Match::kEqual;
    if (c.kind == Kind::kInterface) {
      std::string name = c.interface;
      name.resize(kMaxLinkName + 1, '\0');
      rule.LoadMeta(NFT_META_IIFNAME).Compare(name, match);
      continue;
    }
    const bool v4 = c.subnet.family() == Family::kV4;
    const bool source = c.kind == Kind::kSource;
    const std::uint32_t offset = v4 ? (source ? 12 : 16) : (source ? 8 : 24);
    const auto bytes = c.subnet.address().bytes();
    rule.LoadPayload(NFT_PAYLOAD_NETWORK_HEADER, offset, v4 ? 4 : 16)
        .Mask(MaskOf(c.subnet))
        .Compare({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, match);
  }
}

}  // namespace linnet::network
