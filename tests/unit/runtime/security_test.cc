#include "linnet/runtime/security.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "security/capabilities.h"
#include "security/layered_root.h"

namespace linnet::runtime {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::TempDir;

// -------------------------------------------------------------------------------------------------
// users

constexpr const char* kPasswd =
    "root:x:0:0:root:/root:/bin/sh\n"
    "# a comment\n"
    "broken line\n"
    "big:x:4294967296:0::/:/bin/sh\n"
    "www-data:x:33:34:www-data:/var/www:/usr/sbin/nologin\n"
    "1234:x:0:0:a name of digits:/root:/bin/sh\n"
    "-1:x:0:0::/:/bin/sh\n"
    "0x0:x:0:0::/:/bin/sh\n"
    "relative:x:50:50::home:/bin/sh\n"
    "short:x:60:61\n";
constexpr const char* kGroup =
    "root:x:0:root,www-data\n"
    "staff:x:50:someone,www-data\n"
    "video:x:44:www-data-not\n"
    "huge:x:2147483648:www-data\n"
    "1000:x:0:\n"
    "last:x:7:www-data";  // no line end

class Users : public ::testing::Test {
 protected:
  Users() {
    dir_.Write({{"etc/passwd", kPasswd}, {"etc/group", kGroup}});
    root_.plain_dir = dir_.path();
  }
  Result<ResolvedUser> Resolve(std::string_view user) const { return ResolveUser(root_, user); }

  TempDir dir_;
  RootFs root_;
};

TEST_F(Users, Empty_IsRoot) {
  const auto user = LN_ASSERT_OK(Resolve(""));
  EXPECT_EQ(user.uid, 0U);
  EXPECT_EQ(user.gid, 0U);
  EXPECT_EQ(user.home, "/root");
  EXPECT_EQ(user.name, "root");
  EXPECT_THAT(user.groups, ElementsAre(0U));
}

TEST_F(Users, Name_GivesIdsHomeAndGroups) {
  const auto user = LN_ASSERT_OK(Resolve("www-data"));
  EXPECT_EQ(user.uid, 33U);
  EXPECT_EQ(user.gid, 34U);
  EXPECT_EQ(user.home, "/var/www");
  EXPECT_THAT(user.groups, ElementsAre(0U, 7U, 50U));
}

TEST_F(Users, KnownNumber_IsLookedUp) {
  const auto user = LN_ASSERT_OK(Resolve("33"));
  EXPECT_EQ(user.name, "www-data");
  EXPECT_EQ(user.gid, 34U);
  EXPECT_THAT(user.groups, ElementsAre(0U, 7U, 50U));
}

TEST_F(Users, UnknownNumber_IsTakenAsItIs) {
  const auto user = LN_ASSERT_OK(Resolve("2147483647"));
  EXPECT_EQ(user.uid, 2147483647U);
  EXPECT_EQ(user.gid, 0U);
  EXPECT_EQ(user.home, "/");
  EXPECT_EQ(user.name, "");
  EXPECT_THAT(user.groups, IsEmpty());
}

TEST_F(Users, Groups_ByNameAndNumber) {
  EXPECT_EQ(LN_ASSERT_OK(Resolve("www-data:staff")).gid, 50U);
  EXPECT_EQ(LN_ASSERT_OK(Resolve("33:99")).gid, 99U);
  EXPECT_EQ(LN_ASSERT_OK(Resolve("www-data:")).gid, 34U);
  EXPECT_EQ(LN_ASSERT_OK(Resolve(":50")).gid, 50U);
  EXPECT_EQ(LN_ASSERT_OK(Resolve(":50")).uid, 0U);
  LN_EXPECT_ERROR(Resolve("www-data:nobody"), Code::kNotFound, "nobody");
  LN_EXPECT_ERROR(Resolve("www-data:huge"), Code::kNotFound, "huge");
}

TEST_F(Users, Digits_AreNeverAName) {
  EXPECT_EQ(LN_ASSERT_OK(Resolve("1234")).uid, 1234U);
  EXPECT_EQ(LN_ASSERT_OK(Resolve("33:1000")).gid, 1000U);
}

TEST_F(Users, HostileNumbers_Refused) {
  for (const char* text :
       {"4294967296", "2147483648", "4294967295", "99999999999999999999", "-1", "+0", "0x0", "0X10",
        "1000 ", " 0", "\t0", "0:4294967296", "0:-1", "0:+1", "0: 1", "0:0x1"}) {
    LN_EXPECT_ERROR(Resolve(text), Code::kInvalidArgument, "");
  }
}

TEST_F(Users, HostileNames_Refused) {
  for (const std::string& text : {std::string("a\nb"), std::string("a b"), std::string("a\0b", 3),
                                  std::string(300, 'a'), std::string("a:b:c")}) {
    LN_EXPECT_ERROR(Resolve(text), Code::kInvalidArgument, "");
  }
  LN_EXPECT_ERROR(Resolve("nobody"), Code::kNotFound, "nobody");
  LN_EXPECT_ERROR(Resolve("big"), Code::kNotFound, "big");
  LN_EXPECT_ERROR(Resolve("# a comment"), Code::kInvalidArgument, "");
}

TEST_F(Users, OddLines) {
  EXPECT_EQ(LN_ASSERT_OK(Resolve("relative")).home, "/");
  const auto user = LN_ASSERT_OK(Resolve("short"));
  EXPECT_EQ(user.uid, 60U);
  EXPECT_EQ(user.gid, 61U);
  EXPECT_EQ(user.home, "/");
}

TEST_F(Users, NoFiles_NumbersWork) {
  const TempDir empty;
  root_.plain_dir = empty.path();
  EXPECT_EQ(LN_ASSERT_OK(Resolve("1000:50")).gid, 50U);
  EXPECT_EQ(LN_ASSERT_OK(Resolve("")).home, "/");
  LN_EXPECT_ERROR(Resolve("root"), Code::kNotFound, "root");
}

TEST_F(Users, NotARegularFile_Refused) {
  const std::string passwd = dir_ / "etc/passwd";
  LN_EXPECT_OK(RemoveFile(passwd));
  ASSERT_EQ(::mkfifo(passwd.c_str(), 0644), 0);
  LN_EXPECT_ERROR(Resolve("www-data"), Code::kInvalidArgument, "regular");
  LN_EXPECT_ERROR(Resolve("33"), Code::kInvalidArgument, "regular");
  LN_EXPECT_OK(RemoveFile(passwd));
  ASSERT_EQ(::mkdir(passwd.c_str(), 0755), 0);
  LN_EXPECT_ERROR(Resolve("www-data"), Code::kInvalidArgument, "regular");
}

TEST_F(Users, HugeFiles_RefusedInBoundedMemory) {
  const std::string passwd = dir_ / "etc/passwd";
  const auto grow = [&](off_t size) { ASSERT_EQ(::truncate(passwd.c_str(), size), 0); };
  grow(1 << 20);  // one line of a million NULs
  LN_EXPECT_ERROR(Resolve("nobody"), Code::kInvalidArgument, "line longer");
  std::string lines;
  while (lines.size() < (11U << 20)) lines += "abc:x:1:1::/:/bin/sh\n";
  dir_.Write("etc/passwd", lines);
  LN_EXPECT_ERROR(Resolve("nobody"), Code::kInvalidArgument, "larger than 10 MiB");
  EXPECT_EQ(LN_ASSERT_OK(Resolve("abc")).uid, 1U) << "found before the limit";
}

TEST_F(Users, Links_StayInTheRoot) {
  const TempDir outside;
  outside.Write("passwd", "evil:x:0:0::/:/bin/sh\n");
  const std::string passwd = dir_ / "etc/passwd";
  const auto link_to = [&](const std::string& target) {
    LN_EXPECT_OK(RemoveFile(passwd));
    ASSERT_EQ(::symlink(target.c_str(), passwd.c_str()), 0);
  };
  link_to(outside / "passwd");
  LN_EXPECT_ERROR(Resolve("evil"), Code::kNotFound, "");
  link_to("../../../../../../../.." + (outside / "passwd"));
  LN_EXPECT_ERROR(Resolve("evil"), Code::kNotFound, "");
  dir_.Write("usr/share/base/passwd", "good:x:5:5::/:/bin/sh\n");
  link_to("/usr/share/base/passwd");
  EXPECT_EQ(LN_ASSERT_OK(Resolve("good")).uid, 5U);
  link_to("../usr/./share//base/passwd");
  EXPECT_EQ(LN_ASSERT_OK(Resolve("good")).uid, 5U);
  link_to("passwd");
  LN_EXPECT_ERROR(Resolve("good"), Code::kInvalidArgument, "symbolic links");
  link_to("/dev/zero");
  LN_EXPECT_ERROR(Resolve("good"), Code::kNotFound, "");
}

// -------------------------------------------------------------------------------------------
// layered root

class Layers : public ::testing::Test {
 protected:
  RootFs Root() const {
    RootFs out;
    out.lower_dirs = {low_.path(), high_.path()};
    out.upper_dir = upper_ / "not-yet";
    return out;
  }
  std::string Read(const RootFs& rootfs, const std::string& path) const {
    auto root = LayeredRoot::Open(rootfs);
    if (!root) return root.error().message();
    auto file = root->OpenRegular(path);
    if (!file) return std::string(CodeName(file.error().code()));
    return *ReadAll(*file);
  }
  TempDir low_, high_, upper_;
};

TEST_F(Layers, UppermostWins) {
  low_.Write({{"etc/a", "low"}, {"etc/b", "low"}});
  high_.Write("etc/b", "high");
  EXPECT_EQ(Read(Root(), "/etc/a"), "low");
  EXPECT_EQ(Read(Root(), "/etc/b"), "high");
  RootFs with_upper = Root();
  with_upper.upper_dir = upper_.path();
  upper_.Write("etc/b", "upper");
  EXPECT_EQ(Read(with_upper, "/etc/b"), "upper");
  EXPECT_EQ(Read(with_upper, "/etc/a"), "low");
}

TEST_F(Layers, LinksCrossLayers) {
  low_.Write("usr/etc/a", "low");
  ASSERT_EQ(::symlink("usr/etc", (high_ / "etc").c_str()), 0);
  EXPECT_EQ(Read(Root(), "/etc/a"), "low");
}

TEST_F(Layers, FileHidesDirectory_AndTheOtherWayRound) {
  low_.Write("etc/a", "low");
  high_.Write("etc", "a file");
  EXPECT_EQ(Read(Root(), "/etc/a"), "NotFound");
  low_.Write("x", "a file");
  high_.Write("x/y", "high");
  EXPECT_EQ(Read(Root(), "/x/y"), "high");
}

TEST_F(Layers, MissingLayer_IsAnError) {
  RootFs root = Root();
  root.lower_dirs.push_back(low_ / "absent");
  LN_EXPECT_ERROR(LayeredRoot::Open(root), Code::kNotFound, "absent");
}

TEST_F(Layers, WhiteoutHides) {
  low_.Write({{"etc/a", "low"}, {"sub/b", "low"}});
  high_.Write("etc/");
  if (::mknod((high_ / "etc/a").c_str(), S_IFCHR | 0600, 0) != 0 ||
      ::mknod((high_ / "sub").c_str(), S_IFCHR | 0600, 0) != 0) {
    GTEST_SKIP() << "needs CAP_MKNOD";
  }
  EXPECT_EQ(Read(Root(), "/etc/a"), "NotFound");
  EXPECT_EQ(Read(Root(), "/sub/b"), "NotFound");
}

TEST_F(Layers, OpaqueDirectoryHidesWhatIsBelow) {
  low_.Write({{"etc/a", "low"}, {"etc/b", "low"}});
  high_.Write("etc/b", "high");
  if (::setxattr((high_ / "etc").c_str(), "trusted.overlay.opaque", "y", 1, 0) != 0)
    GTEST_SKIP() << "needs CAP_SYS_ADMIN";
  EXPECT_EQ(Read(Root(), "/etc/a"), "NotFound");
  EXPECT_EQ(Read(Root(), "/etc/b"), "high");
}

// ------------------------------------------------------------------------------------------
// capabilities

std::vector<std::string> Compute(const std::vector<std::string>& add,
                                 const std::vector<std::string>& drop) {
  auto caps = ComputeCapabilities(add, drop, {}, false);
  EXPECT_TRUE(caps.has_value());
  if (!caps) return {};
  EXPECT_EQ(caps->bounding, caps->effective);
  EXPECT_EQ(caps->bounding, caps->permitted);
  EXPECT_THAT(caps->inheritable, IsEmpty());
  EXPECT_THAT(caps->ambient, IsEmpty());
  return caps->bounding;
}

// Only those that this process could give.
std::vector<std::string> Available(std::vector<std::string> names) {
  std::erase_if(
      names, [](const std::string& n) { return ((BoundingSet() >> *FindCapability(n)) & 1) == 0; });
  return names;
}

TEST(Capabilities, Default_IsThe14) {
  EXPECT_EQ(Compute({}, {}), Available({"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID",
                                        "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
                                        "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT",
                                        "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP"}));
}

TEST(Capabilities, AddAndDrop) {
  EXPECT_THAT(Compute({"NET_ADMIN"}, {}), Contains("CAP_NET_ADMIN"));
  EXPECT_THAT(Compute({"cap_net_admin"}, {}), Contains("CAP_NET_ADMIN"));
  EXPECT_THAT(Compute({}, {"NET_RAW"}), Not(Contains("CAP_NET_RAW")));
  EXPECT_THAT(Compute({"NET_ADMIN"}, {"CAP_NET_ADMIN"}), Not(Contains("CAP_NET_ADMIN")))
      << "a named drop wins";
}

TEST(Capabilities, All) {
  EXPECT_THAT(Compute({}, {"ALL"}), IsEmpty());
  EXPECT_EQ(Compute({"CHOWN"}, {"all"}), Available({"CAP_CHOWN"}));
  EXPECT_THAT(Compute({"ALL"}, {"CHOWN"}), Not(Contains("CAP_CHOWN")));
  EXPECT_EQ(Compute({"ALL"}, {}), Available({kCapabilityNames.begin(), kCapabilityNames.end()}));
  EXPECT_EQ(Compute({"ALL", "CHOWN"}, {"ALL"}), Available({"CAP_CHOWN"}));
}

TEST(Capabilities, Unknown_IsAnError) {
  LN_EXPECT_ERROR(ComputeCapabilities({"NET_ADMINN"}, {}, {}, false), Code::kInvalidArgument,
                  "NET_ADMINN");
  LN_EXPECT_ERROR(ComputeCapabilities({}, {""}, {}, false), Code::kInvalidArgument, "");
  LN_EXPECT_ERROR(ComputeCapabilities({}, {}, {"X"}, false), Code::kInvalidArgument, "add_ambient");
}

TEST(Capabilities, Ambient_IsInEverySet) {
  const auto caps = LN_ASSERT_OK(ComputeCapabilities({}, {"ALL"}, {"NET_BIND_SERVICE"}, false));
  const std::vector<std::string> want = Available({"CAP_NET_BIND_SERVICE"});
  EXPECT_EQ(caps.ambient, want);
  EXPECT_EQ(caps.inheritable, want);
  EXPECT_EQ(caps.bounding, want);
}

TEST(Capabilities, Privileged_IsAllThereIs) {
  const auto caps = LN_ASSERT_OK(ComputeCapabilities({}, {"ALL"}, {}, true));
  EXPECT_EQ(caps.bounding, Available({kCapabilityNames.begin(), kCapabilityNames.end()}));
}

// -----------------------------------------------------------------------------------------------
// signals

TEST(ParseSignal, Names) {
  for (const auto& [text, number] :
       std::initializer_list<std::pair<const char*, int>>{{"SIGTERM", SIGTERM},
                                                          {"TERM", SIGTERM},
                                                          {"sigterm", SIGTERM},
                                                          {"15", 15},
                                                          {"9", 9},
                                                          {"KILL", SIGKILL},
                                                          {"SIGRTMIN", 34},
                                                          {"RTMIN+3", 37},
                                                          {"SIGRTMIN+0", 34},
                                                          {"RTMAX", 64},
                                                          {"SIGRTMAX-1", 63},
                                                          {"RTMIN+30", 64},
                                                          {"64", 64},
                                                          {"WINCH", SIGWINCH}}) {
    EXPECT_EQ(LN_ASSERT_OK(ParseSignal(text)), number) << text;
  }
}

TEST(ParseSignal, Nonsense) {
  for (const char* text :
       {"", "0", "65", "-1", "+9", "SIG", "SIGSIGTERM", "TERMINATE", "RTMIN-1", "RTMIN+31",
        "RTMAX+1", "RTMAX-31", "RTMIN+", "RTMIN+x", "9 ", "99999999999999999999"}) {
    LN_EXPECT_ERROR(ParseSignal(text), Code::kInvalidArgument, text);
  }
}

// -----------------------------------------------------------------------------------------------
// devices

bool AllowsRule(const oci::Spec& spec, const std::string& type, std::optional<std::int64_t> major,
                std::optional<std::int64_t> minor, const std::string& access) {
  return std::any_of(spec.resources.devices.begin(), spec.resources.devices.end(),
                     [&](const oci::DeviceRule& r) {
                       return r.allow && r.type == type && r.major == major && r.minor == minor &&
                              r.access == access;
                     });
}

const oci::Device* FindDevice(const oci::Spec& spec, const std::string& path) {
  const auto it = std::find_if(spec.devices.begin(), spec.devices.end(),
                               [&](const oci::Device& d) { return d.path == path; });
  return it == spec.devices.end() ? nullptr : &*it;
}

TEST(Devices, Defaults) {
  oci::Spec spec;
  AddDefaultDevices(spec);
  ASSERT_EQ(spec.devices.size(), 6U);
  const oci::Device* urandom = FindDevice(spec, "/dev/urandom");
  ASSERT_NE(urandom, nullptr);
  EXPECT_EQ(urandom->major, 1);
  EXPECT_EQ(urandom->minor, 9);
  EXPECT_EQ(urandom->file_mode, 0666U);
  EXPECT_TRUE(AllowsRule(spec, "c", 5, 0, "rwm"));
  EXPECT_TRUE(AllowsRule(spec, "c", 5, 2, "rwm"));
  EXPECT_TRUE(AllowsRule(spec, "c", 136, {}, "rwm"));
  EXPECT_TRUE(AllowsRule(spec, "c", {}, {}, "m"));
  EXPECT_TRUE(AllowsRule(spec, "b", {}, {}, "m"));
  EXPECT_FALSE(AllowsRule(spec, "c", 10, 200, "rwm")) << "/dev/net/tun is asked for, not given";
}

TEST(Devices, HostDevice) {
  oci::Spec spec;
  AddDefaultDevices(spec);
  LN_EXPECT_OK(AddHostDevice(spec, "/dev/null", "/dev/mynull", "r"));
  const oci::Device* device = FindDevice(spec, "/dev/mynull");
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->type, "c");
  EXPECT_EQ(device->major, 1);
  EXPECT_EQ(device->minor, 3);
  EXPECT_TRUE(AllowsRule(spec, "c", 1, 3, "r"));
  LN_EXPECT_OK(AddHostDevice(spec, "/dev/null", "", ""));
  EXPECT_EQ(spec.devices.size(), 7U) << "one device a path";
}

TEST(Devices, LinkIsFollowed) {
  const TempDir dir;
  ASSERT_EQ(::symlink("/dev/zero", (dir / "link").c_str()), 0);
  oci::Spec spec;
  LN_EXPECT_OK(AddHostDevice(spec, dir / "link", "/dev/z", "rwm"));
  EXPECT_EQ(spec.devices.at(0).minor, 5);
}

TEST(Devices, Directory_IsWalked) {
  const TempDir dir;
  dir.Write({{"d/file", "not a device"}, {"d/sub/", ""}});
  if (::mknod((dir / "d/one").c_str(), S_IFCHR | 0640, makedev(1, 3)) != 0 ||
      ::mknod((dir / "d/sub/two").c_str(), S_IFBLK | 0600, makedev(7, 1)) != 0) {
    GTEST_SKIP() << "needs CAP_MKNOD";
  }
  ASSERT_EQ(::symlink("/dev/zero", (dir / "d/link").c_str()), 0);
  oci::Spec spec;
  LN_EXPECT_OK(AddHostDevice(spec, dir / "d", "/dev/x", "rw"));
  ASSERT_EQ(spec.devices.size(), 2U);
  EXPECT_EQ(spec.devices[0].path, "/dev/x/one");
  EXPECT_EQ(spec.devices[1].path, "/dev/x/sub/two");
  EXPECT_EQ(spec.devices[1].type, "b");
  EXPECT_TRUE(AllowsRule(spec, "b", 7, 1, "rw"));
}

TEST(Devices, Errors) {
  oci::Spec spec;
  LN_EXPECT_ERROR(AddHostDevice(spec, "/dev/no-such-device", "/dev/x", "rwm"), Code::kNotFound,
                  "no-such-device");
  LN_EXPECT_ERROR(AddHostDevice(spec, "/etc/passwd", "/dev/x", "rwm"), Code::kInvalidArgument,
                  "not a device");
  LN_EXPECT_ERROR(AddHostDevice(spec, "/dev/null", "/dev/x", "rx"), Code::kInvalidArgument, "rx");
  LN_EXPECT_ERROR(AddHostDevice(spec, "/dev/null", "/dev/x", "rr"), Code::kInvalidArgument, "rr");
  LN_EXPECT_ERROR(AddHostDevice(spec, "dev/null", "/dev/x", "r"), Code::kInvalidArgument,
                  "absolute");
  LN_EXPECT_ERROR(AddHostDevice(spec, "/dev/null", "x", "r"), Code::kInvalidArgument, "absolute");
  EXPECT_TRUE(spec.devices.empty());
  EXPECT_TRUE(spec.resources.devices.empty());
}

TEST(Devices, AllOfTheHost) {
  oci::Spec spec;
  LN_EXPECT_OK(AddAllHostDevices(spec));
  EXPECT_NE(FindDevice(spec, "/dev/null"), nullptr);
  for (const oci::Device& d : spec.devices) {
    EXPECT_FALSE(d.path.starts_with("/dev/pts/") || d.path.starts_with("/dev/shm/") ||
                 d.path == "/dev/console" || d.path == "/dev/ptmx")
        << d.path;
  }
}

// -----------------------------------------------------------------------------------------------
// defaults

TEST(Defaults, Mounts_InOrderParentsFirst) {
  std::vector<std::string> destinations;
  for (const oci::Mount& m : DefaultMounts()) destinations.push_back(m.destination);
  EXPECT_THAT(destinations, ElementsAre("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue",
                                        "/sys", "/sys/fs/cgroup"));
  for (const oci::Mount& m : DefaultMounts()) {
    EXPECT_THAT(m.options, Contains("nosuid")) << m.destination;
    if (m.destination.starts_with("/sys")) {
      EXPECT_THAT(m.options, Contains("ro")) << m.destination;
    }
  }
}

TEST(Defaults, Paths) {
  EXPECT_THAT(DefaultReadonlyPaths(), ElementsAre("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                                  "/proc/sysrq-trigger"));
  for (const char* path :
       {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
        "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
        "/sys/devices/virtual/powercap", "/proc/interrupts"}) {
    EXPECT_THAT(DefaultMaskedPaths(), Contains(path));
  }
}

}  // namespace
}  // namespace linnet::runtime
