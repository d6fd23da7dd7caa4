#include <sys/mman.h>
#include <sys/stat.h>

#include "keeper.h"

namespace linnet::runtime::keeper {

PlanOf::~PlanOf() {
  if (map_ != nullptr) munmap(map_, map_size_);
}

const char* PlanOf::Open(Command& command, std::size_t struct_size, std::uint32_t inline_size,
                         plan::Kind kind, std::uint32_t extra_fds) {
  std::uint32_t before = extra_fds;
  const void* data = nullptr;
  std::size_t size = inline_size;
  if (inline_size > 0) {
    if (inline_size > command.size - struct_size) return "plan exceeds its message";
    data = reinterpret_cast<const char*>(command.header) + struct_size;
  } else {
    if (command.fd_count == 0) return "no plan";
    // Unsealed, it could shrink or change while it is carried out.
    constexpr int kSeals = F_SEAL_WRITE | F_SEAL_SHRINK;
    const int seals = fcntl(command.fds[0], F_GET_SEALS);
    if (seals < 0 || (seals & kSeals) != kSeals) return "plan is not sealed";
    struct stat info = {};
    if (fstat(command.fds[0], &info) != 0 || info.st_size <= 0 || info.st_size > plan::kMaxSize)
      return "plan has a wrong size";
    size = static_cast<std::size_t>(info.st_size);
    map_ = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, command.fds[0], 0);
    if (map_ == MAP_FAILED) {
      map_ = nullptr;
      return "plan cannot be mapped";
    }
    map_size_ = size;
    data = map_;
    ++before;
  }
  if (command.fd_count < before) return "descriptors are missing";
  extra_ = command.fds + (before - extra_fds);
  fds_ = command.fds + before;
  fd_count_ = command.fd_count - before;
  reader_ = plan::Reader(data, size);
  return reader_.Check(kind, fd_count_);
}

int PlanOf::Take(plan::FdIndex index) {
  if (index == plan::kNoFd) return -1;
  const int fd = fds_[index];
  fds_[index] = -1;
  return fd;
}

}  // namespace linnet::runtime::keeper
