#include "registry/challenge.h"

#include <string_view>

#include "linnet/base/text.h"

namespace linnet::oci {
namespace {

constexpr std::size_t kMaxHeader = 16U << 10;
constexpr std::size_t kMaxChallenges = 16;

class Parser {
 public:
  Parser(std::string_view text, std::vector<Challenge>* out) : text_(text), out_(out) {}

  void Run() {
    const std::size_t first = out_->size();
    for (;;) {
      SkipSeparators();
      if (AtEnd()) return;
      const std::string_view word = Token();
      if (word.empty()) {
        SkipToComma();
        continue;
      }
      SkipBlanks();
      if (Peek() == '=') {
        ++at_;
        std::string value = Value();
        // A parameter before any scheme belongs to nothing.
        if (out_->size() > first)
          out_->back().params.insert_or_assign(ToLower(word), std::move(value));
        continue;
      }
      if (out_->size() >= kMaxChallenges) return;
      out_->push_back({.scheme = ToLower(word)});
      SkipToken68();
    }
  }

 private:
  bool AtEnd() const { return at_ >= text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  static bool IsBlank(char c) { return c == ' ' || c == '\t'; }
  static bool IsTokenChar(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  }
  void SkipBlanks() {
    while (IsBlank(Peek())) ++at_;
  }
  void SkipSeparators() {
    while (IsBlank(Peek()) || Peek() == ',') ++at_;
  }
  void SkipToComma() {
    while (!AtEnd() && text_[at_] != ',') ++at_;
  }
  std::string_view Token() {
    const std::size_t begin = at_;
    while (!AtEnd() && IsTokenChar(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  // "abc==" after a scheme, as of Negotiate: not of interest. Anything else stays where it is.
  void SkipToken68() {
    std::size_t i = at_;
    while (i < text_.size() && (IsTokenChar(text_[i]) || text_[i] == '/')) ++i;
    while (i < text_.size() && text_[i] == '=') ++i;
    while (i < text_.size() && IsBlank(text_[i])) ++i;
    if (i == text_.size() || text_[i] == ',') at_ = i;
  }
  std::string Value() {
    SkipBlanks();
    if (Peek() != '"') return std::string(Token());
    ++at_;
    std::string out;
    while (!AtEnd() && text_[at_] != '"') {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
      out += text_[at_++];
    }
    if (!AtEnd()) ++at_;
    return out;
  }

  std::string_view text_;
  std::vector<Challenge>* out_;
  std::size_t at_ = 0;
};

}  // namespace

std::vector<Challenge> ParseChallenges(const std::vector<std::string>& header_values) {
  std::vector<Challenge> out;
  for (const std::string& value : header_values)
    Parser(std::string_view(value).substr(0, kMaxHeader), &out).Run();
  return out;
}

}  // namespace linnet::oci
