#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <set>

#include "linnet/base/text.h"
#include "linnet/runtime/security.h"

#include "security/layered_root.h"

namespace linnet::runtime {
namespace {

constexpr std::size_t kMaxFileBytes = 10U << 20;
constexpr std::size_t kMaxLineBytes = 64U << 10;
constexpr std::uint32_t kMaxId = 0x7fffffff;

bool AllDigits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Whether the text would be a number to some reader ("+0", "-1", "0x0", "1000 "): such a text is
// never a name, so that what another part of the system takes for a number cannot be a name that
// the image made up (CVE-2026-46680).
bool LooksLikeNumber(std::string_view text) {
  std::string_view rest = Trim(text);
  if (rest.starts_with('+') || rest.starts_with('-')) rest.remove_prefix(1);
  if (rest.starts_with("0x") || rest.starts_with("0X")) return true;
  return AllDigits(rest);
}

// A uid or gid, or nullopt for a name.
Result<std::optional<std::uint32_t>> ParseId(std::string_view text, std::string_view what) {
  if (!LooksLikeNumber(text)) {
    const bool bad =
        std::any_of(text.begin(), text.end(), [](char c) { return c <= ' ' || c == 0x7f; });
    if (bad || text.size() > 256)
      return InvalidArgument(std::string(what) + " \"" + std::string(text) + "\" is not a name");
    return std::optional<std::uint32_t>();
  }
  const auto number = AllDigits(text) ? ParseNumber<std::uint32_t>(text)
                                      : Result<std::uint32_t>(InvalidArgument(""));
  if (!number || *number > kMaxId) {
    return InvalidArgument(std::string(what) + " \"" + std::string(text) +
                           "\" is not a number from 0 to 2147483647");
  }
  return std::optional<std::uint32_t>(*number);
}

// Calls `line` for each line until it returns false. The whole file is never in memory.
template <class Line>
Result<void> ForEachLine(FdRef file, std::string_view name, Line line) {
  std::string pending;
  std::size_t total = 0;
  std::array<char, 16384> buffer{};
  for (;;) {
    const ssize_t n = ::read(file.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::FromErrno(errno, "read " + std::string(name));
    if (n == 0) break;
    total += static_cast<std::size_t>(n);
    if (total > kMaxFileBytes) return InvalidArgument(std::string(name) + " is larger than 10 MiB");
    pending.append(buffer.data(), static_cast<std::size_t>(n));
    std::size_t start = 0;
    for (std::size_t end = pending.find('\n'); end != std::string::npos;
         end = pending.find('\n', start)) {
      if (!line(std::string_view(pending).substr(start, end - start))) return Ok();
      start = end + 1;
    }
    pending.erase(0, start);
    if (pending.size() > kMaxLineBytes)
      return InvalidArgument(std::string(name) + " has a line longer than 64 KiB");
  }
  if (!pending.empty()) line(std::string_view(pending));
  return Ok();
}

// The same over a file of the root; absent is empty.
template <class Line>
Result<void> ForEachLine(const LayeredRoot& root, const std::string& path, Line line) {
  Result<UniqueFd> file = root.OpenRegular(path);
  if (!file) {
    if (file.error().Is(Code::kNotFound)) return Ok();
    return std::move(file).error();
  }
  return ForEachLine(*file, path, line);
}

// Up to `N` fields between colons; what comes after is dropped. The number of fields, at most N.
template <std::size_t N>
std::size_t Fields(std::string_view line, std::array<std::string_view, N>& out) {
  std::size_t count = 0;
  while (count < N) {
    const std::size_t colon = line.find(':');
    out[count++] = line.substr(0, colon);
    if (colon == std::string_view::npos) break;
    line.remove_prefix(colon + 1);
  }
  return count;
}

struct PasswdEntry {
  std::string name, home;
  std::uint32_t uid = 0, gid = 0;
};

// name:password:uid:gid:comment:home:shell; nullopt for what is not such a line (comments, NIS
// marks, bad numbers).
std::optional<PasswdEntry> ParsePasswdLine(std::string_view line) {
  std::array<std::string_view, 6> fields;
  const std::size_t count = Fields(line, fields);
  if (count < 4 || fields[0].empty()) return std::nullopt;
  const auto uid = ParseNumber<std::uint32_t>(fields[2]);
  const auto gid = ParseNumber<std::uint32_t>(fields[3]);
  if (!uid || !gid || *uid > kMaxId || *gid > kMaxId) return std::nullopt;
  return PasswdEntry{
      .name = std::string(fields[0]), .home = std::string(fields[5]), .uid = *uid, .gid = *gid};
}

// The first entry that matches, as getpwnam and getpwuid do.
Result<std::optional<PasswdEntry>> FindUser(const LayeredRoot& root, const std::string& name,
                                            std::optional<std::uint32_t> uid) {
  std::optional<PasswdEntry> out;
  LN_TRY(ForEachLine(root, "/etc/passwd", [&](std::string_view line) {
    std::optional<PasswdEntry> entry = ParsePasswdLine(line);
    if (!entry || (uid ? entry->uid != *uid : entry->name != name)) return true;
    out = std::move(entry);
    return false;
  }));
  return out;
}

bool ListHas(std::string_view list, std::string_view name) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    if (list.substr(0, comma) == name) return true;
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

struct GroupMatches {
  std::optional<std::uint32_t> named;  // the gid of the group asked for by name
  std::set<std::uint32_t> memberships;
};

// name:password:gid:member,member
Result<GroupMatches> FindGroups(const LayeredRoot& root, const std::string& group_name,
                                const std::string& user_name) {
  GroupMatches out;
  if (group_name.empty() && user_name.empty()) return out;
  LN_TRY(ForEachLine(root, "/etc/group", [&](std::string_view line) {
    std::array<std::string_view, 4> fields;
    if (Fields(line, fields) < 3 || fields[0].empty()) return true;
    const auto gid = ParseNumber<std::uint32_t>(fields[2]);
    if (!gid || *gid > kMaxId) return true;
    if (!out.named && !group_name.empty() && fields[0] == group_name) out.named = *gid;
    if (!user_name.empty() && ListHas(fields[3], user_name)) out.memberships.insert(*gid);
    return true;
  }));
  return out;
}

}  // namespace

Result<ResolvedUser> ResolveUser(const RootFs& rootfs, std::string_view user) {
  const std::size_t colon = user.find(':');
  const std::string user_part(user.substr(0, colon));
  const std::string group_part(colon == std::string_view::npos ? std::string_view()
                                                               : user.substr(colon + 1));
  std::optional<std::uint32_t> uid;
  if (user_part.empty()) {
    uid = 0;
  } else {
    uid = LN_TRY(ParseId(user_part, "user"));
  }
  std::optional<std::uint32_t> gid;
  if (!group_part.empty()) {
    if (group_part.find(':') != std::string::npos)
      return InvalidArgument("user \"" + std::string(user) + "\" has two colons");
    gid = LN_TRY(ParseId(group_part, "group"));
  }

  const LayeredRoot root = LN_TRY(LayeredRoot::Open(rootfs));
  const std::optional<PasswdEntry> entry = LN_TRY(FindUser(root, user_part, uid));
  if (!entry && !uid) return NotFound("no user \"" + user_part + "\" in /etc/passwd of the image");
  ResolvedUser out;
  out.uid = entry ? entry->uid : *uid;
  out.gid = entry ? entry->gid : 0;
  if (entry) {
    out.name = entry->name;
    if (entry->home.starts_with("/")) out.home = entry->home;
  }
  const std::string group_name = gid ? std::string() : group_part;
  const GroupMatches groups = LN_TRY(FindGroups(root, group_name, out.name));
  if (!group_part.empty()) {
    if (!gid) gid = groups.named;
    if (!gid) return NotFound("no group \"" + group_part + "\" in /etc/group of the image");
    out.gid = *gid;
  }
  out.groups.assign(groups.memberships.begin(), groups.memberships.end());
  return out;
}

}  // namespace linnet::runtime
