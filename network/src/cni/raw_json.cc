#include "cni/raw_json.h"

#include "linnet/base/json_view.h"

namespace linnet::network::cni {
namespace {

// Walks a text whose grammar was checked by a real parser before; every step is still bounded by
// the text.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  void SkipSpace() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
      ++at_;
  }
  bool Take(char c) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::string_view String() {
    SkipSpace();
    const std::size_t from = at_;
    if (at_ < text_.size() && text_[at_] == '"') ++at_;
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    at_ = std::min(at_ + 1, text_.size());
    return text_.substr(from, at_ - from);
  }
  std::string_view Value() {
    SkipSpace();
    const std::size_t from = at_;
    int depth = 0;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        (void)String();
        if (depth == 0) break;
        continue;
      }
      if (depth == 0 && (c == ',' || c == '}' || c == ']')) break;
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      ++at_;
      if (depth == 0 && (c == '}' || c == ']')) break;
    }
    std::string_view value = text_.substr(from, at_ - from);
    while (!value.empty() && static_cast<unsigned char>(value.back()) <= ' ')
      value.remove_suffix(1);
    return value;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<std::vector<RawMember>> RawMembers(std::string_view text) {
  Scanner scan(text);
  std::vector<RawMember> out;
  if (!scan.Take('{')) return InvalidArgument("not a JSON object");
  if (scan.Take('}')) return out;
  do {
    const Json key = LN_TRY(ParseJson(scan.String()));
    if (!key.is_string() || !scan.Take(':')) return InvalidArgument("not a JSON object");
    out.push_back({key.get<std::string>(), scan.Value()});
  } while (scan.Take(','));
  if (!scan.Take('}')) return InvalidArgument("not a JSON object");
  return out;
}

Result<std::vector<std::string_view>> RawElements(std::string_view text) {
  Scanner scan(text);
  std::vector<std::string_view> out;
  if (!scan.Take('[')) return InvalidArgument("not a JSON array");
  if (scan.Take(']')) return out;
  do {
    out.push_back(scan.Value());
  } while (scan.Take(','));
  if (!scan.Take(']')) return InvalidArgument("not a JSON array");
  return out;
}

std::string QuotedKey(std::string_view key) { return DumpJson(Json(std::string(key))) + ":"; }

}  // namespace linnet::network::cni
