#include "plan/writer.h"

#include <cstring>

namespace linnet::runtime::plan {

Writer::Writer() {
  buffer_.reserve(4096);
  buffer_.resize(sizeof(Header));
}

std::uint32_t Writer::Append(const void* data, std::size_t size, std::size_t alignment) {
  // Too large a plan is found by Finish(): offsets of what lies beyond kMaxSize are never used.
  buffer_.resize((buffer_.size() + alignment - 1) / alignment * alignment);
  const std::size_t offset = buffer_.size();
  buffer_.append(static_cast<const char*>(data), size);
  return static_cast<std::uint32_t>(offset);
}

Text Writer::Add(std::string_view text) {
  if (text.empty()) return {};
  if (text.find('\0') != std::string_view::npos) text_with_nul_ = true;
  const Text added = {Append(text.data(), text.size(), 1), static_cast<std::uint32_t>(text.size())};
  buffer_.push_back('\0');
  return added;
}

List Writer::Texts(const std::vector<std::string>& texts) {
  std::vector<Text> added;
  added.reserve(texts.size());
  for (const std::string& text : texts) added.push_back(Add(text));
  return Items(added);
}

List Writer::AddItems(const void* data, std::size_t item_size, std::size_t count) {
  if (count == 0) return {};
  return {Append(data, item_size * count, 8), static_cast<std::uint32_t>(count)};
}

FdIndex Writer::AddFd(FdRef fd) {
  if (!fd.valid()) return kNoFd;
  fds_.push_back(fd);
  return static_cast<FdIndex>(fds_.size() - 1);
}

FdIndex Writer::AddFd(UniqueFd fd) {
  if (!fd.valid()) return kNoFd;
  kept_.push_back(std::move(fd));
  return AddFd(kept_.back().ref());
}

List Writer::Fds(const std::vector<UniqueFd>& fds) {
  std::vector<FdIndex> indexes;
  indexes.reserve(fds.size());
  for (const UniqueFd& fd : fds) {
    if (fd.valid()) indexes.push_back(AddFd(fd.ref()));
  }
  return Items(indexes);
}

template <class T>
Result<std::string> Writer::FinishWith(const T& body, Kind kind) {
  if (text_with_nul_) return InvalidArgument("a text of the launch plan has a NUL inside");
  Header header;
  header.kind = kind;
  header.body = Append(&body, sizeof body, 8);
  if (buffer_.size() > kMaxSize) return InvalidArgument("launch plan exceeds its limit of 4 MiB");
  header.size = static_cast<std::uint32_t>(buffer_.size());
  std::memcpy(buffer_.data(), &header, sizeof header);
  const Reader reader(buffer_.data(), buffer_.size());
  if (const char* problem = reader.Check(kind, static_cast<std::uint32_t>(fds_.size()));
      problem != nullptr) {
    return InvalidArgument(std::string("launch plan: ") + problem);
  }
  return std::move(buffer_);
}

Result<std::string> Writer::Finish(const PodPlan& body) { return FinishWith(body, Kind::kPod); }
Result<std::string> Writer::Finish(const ContainerPlan& body) {
  return FinishWith(body, Kind::kContainer);
}
Result<std::string> Writer::Finish(const ExecPlan& body) { return FinishWith(body, Kind::kExec); }

}  // namespace linnet::runtime::plan
