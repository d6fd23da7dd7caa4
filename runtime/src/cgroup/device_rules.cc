#include "cgroup/device_rules.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>

namespace linnet::runtime {
namespace {

constexpr std::string_view kAllAccess = "rwm";

Result<std::optional<std::uint32_t>> CheckNumber(const std::optional<std::int64_t>& number,
                                                 const char* what) {
  if (!number || *number == -1) return std::optional<std::uint32_t>();
  // Compared as a signed 32-bit immediate below; Linux has 12 bits of major and 20 of minor
  // numbers.
  if (*number < 0 || *number > std::numeric_limits<std::int32_t>::max()) {
    return InvalidArgument(std::string("device rule: ") + what + " number " +
                           std::to_string(*number) + " is out of range");
  }
  return std::optional<std::uint32_t>(static_cast<std::uint32_t>(*number));
}

Result<std::string> CheckAccess(const std::string& access) {
  if (access.empty()) return std::string(kAllAccess);
  if (access.find_first_not_of(kAllAccess) != std::string::npos) {
    return InvalidArgument("device rule: access \"" + access + "\" is not made of r, w and m");
  }
  return access;
}

bool NamesAll(const std::string& access) {
  return access.find('r') != std::string::npos && access.find('w') != std::string::npos &&
         access.find('m') != std::string::npos;
}

std::int32_t AccessBits(const std::string& access) {
  std::int32_t out = 0;
  for (const char c : access) {
    if (c == 'm') out |= BPF_DEVCG_ACC_MKNOD;
    if (c == 'r') out |= BPF_DEVCG_ACC_READ;
    if (c == 'w') out |= BPF_DEVCG_ACC_WRITE;
  }
  return out;
}

// Registers: r1 context, r2 kind of device, r3 accesses still to be decided, r4 major, r5 minor, r6
// scratch.
bpf_insn Instruction(int code, int dst, int src, std::size_t off, std::int32_t imm) {
  bpf_insn out{};
  out.code = static_cast<std::uint8_t>(code);
  out.dst_reg = static_cast<std::uint8_t>(dst) & 0xf;
  out.src_reg = static_cast<std::uint8_t>(src) & 0xf;
  out.off = static_cast<std::int16_t>(off);
  out.imm = imm;
  return out;
}
bpf_insn Load(int dst, std::size_t offset) {
  return Instruction(BPF_LDX | BPF_MEM | BPF_W, dst, 1, offset, 0);
}
bpf_insn JumpUnlessEqual(int reg, std::int32_t value, std::size_t over) {
  return Instruction(BPF_JMP | BPF_JNE | BPF_K, reg, 0, over, value);
}
bpf_insn Move(int dst, std::int32_t value) {
  return Instruction(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value);
}
bpf_insn Exit() { return Instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

// What a matching rule does; falls through where accesses are left to be decided.
std::vector<bpf_insn> Effect(const DeviceRules::Rule& rule) {
  const std::int32_t bits = AccessBits(rule.access);
  if (rule.allow) {
    return {Instruction(BPF_ALU | BPF_AND | BPF_K, 3, 0, 0, ~bits & 7), JumpUnlessEqual(3, 0, 2),
            Move(0, 1), Exit()};
  }
  return {Instruction(BPF_ALU64 | BPF_MOV | BPF_X, 6, 3, 0, 0),
          Instruction(BPF_ALU | BPF_AND | BPF_K, 6, 0, 0, bits),
          Instruction(BPF_JMP | BPF_JEQ | BPF_K, 6, 0, 2, 0), Move(0, 0), Exit()};
}

std::vector<bpf_insn> Block(const DeviceRules::Rule& rule) {
  const std::vector<bpf_insn> effect = Effect(rule);
  std::size_t tests = 1 + (rule.major ? 1U : 0U) + (rule.minor ? 1U : 0U);
  std::vector<bpf_insn> out;
  const auto test = [&](int reg, std::int32_t value) {
    --tests;
    out.push_back(JumpUnlessEqual(reg, value, tests + effect.size()));
  };
  test(2, rule.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
  if (rule.major) test(4, static_cast<std::int32_t>(*rule.major));
  if (rule.minor) test(5, static_cast<std::int32_t>(*rule.minor));
  out.insert(out.end(), effect.begin(), effect.end());
  return out;
}

long Bpf(int command, bpf_attr& attr) {  // NOLINT(google-runtime-int): as syscall(2)
  return ::syscall(SYS_bpf, command, &attr, sizeof attr);
}

std::uint64_t Pointer(const void* p) { return reinterpret_cast<std::uint64_t>(p); }

Result<std::uint32_t> ProgramId(FdRef program) {
  bpf_prog_info info{};
  bpf_attr attr{};
  attr.info.bpf_fd = static_cast<std::uint32_t>(program.get());
  attr.info.info_len = sizeof info;
  attr.info.info = Pointer(&info);
  if (Bpf(BPF_OBJ_GET_INFO_BY_FD, attr) < 0)
    return Error::FromErrno(errno, "ask for the device program's id");
  return info.id;
}

Result<void> AttachOrDetach(int command, FdRef cgroup, FdRef program) {
  bpf_attr attr{};
  attr.target_fd = static_cast<std::uint32_t>(cgroup.get());
  attr.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attr.attach_type = BPF_CGROUP_DEVICE;
  if (command == BPF_PROG_ATTACH) attr.attach_flags = BPF_F_ALLOW_MULTI;
  if (Bpf(command, attr) < 0) {
    return Error::FromErrno(errno, command == BPF_PROG_ATTACH ? "attach the device program"
                                                              : "detach the old device program");
  }
  return Ok();
}

}  // namespace

Result<DeviceRules> NormaliseDeviceRules(const std::vector<oci::DeviceRule>& rules) {
  DeviceRules out;
  for (const oci::DeviceRule& rule : rules) {
    DeviceRules::Rule r;
    r.allow = rule.allow;
    r.major = LN_TRY(CheckNumber(rule.major, "major"));
    r.minor = LN_TRY(CheckNumber(rule.minor, "minor"));
    r.access = LN_TRY(CheckAccess(rule.access));
    if (rule.type == "c" || rule.type == "b") {
      r.type = rule.type[0];
      out.rules.push_back(std::move(r));
      continue;
    }
    if (rule.type != "a" && !rule.type.empty())
      return InvalidArgument("device rule: unknown type \"" + rule.type + "\"");
    if (!r.major && !r.minor && NamesAll(r.access)) {
      out.fallback = rule.allow;
      out.rules.clear();
      continue;
    }
    for (const char type : {'c', 'b'}) {
      r.type = type;
      out.rules.push_back(r);
    }
  }
  return out;
}

std::string FormatDeviceRule(const DeviceRules::Rule& rule) {
  const auto number = [](const std::optional<std::uint32_t>& n) {
    return n ? std::to_string(*n) : std::string("*");
  };
  return std::string(1, rule.type) + " " + number(rule.major) + ":" + number(rule.minor) + " " +
         rule.access;
}

std::vector<bpf_insn> BuildDeviceProgram(const DeviceRules& rules) {
  // access_type is (accesses << 16) | kind (include/uapi/linux/bpf.h).
  std::vector<bpf_insn> out = {
      Load(2, offsetof(bpf_cgroup_dev_ctx, access_type)),
      Instruction(BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0),
      Instruction(BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff),
      Instruction(BPF_ALU | BPF_RSH | BPF_K, 3, 0, 0, 16),
      Load(4, offsetof(bpf_cgroup_dev_ctx, major)),
      Load(5, offsetof(bpf_cgroup_dev_ctx, minor)),
  };
  for (auto rule = rules.rules.rbegin(); rule != rules.rules.rend(); ++rule) {
    const std::vector<bpf_insn> block = Block(*rule);
    out.insert(out.end(), block.begin(), block.end());
  }
  out.push_back(Move(0, rules.fallback.value_or(false) ? 1 : 0));
  out.push_back(Exit());
  return out;
}

Result<UniqueFd> LoadDeviceProgram(const std::vector<bpf_insn>& program) {
  static constexpr char kLicense[] = "";  // no helper is called
  bpf_attr attr{};
  attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attr.insns = Pointer(program.data());
  attr.insn_cnt = static_cast<std::uint32_t>(program.size());
  attr.license = Pointer(kLicense);
  std::memcpy(attr.prog_name, "linnet_devices", sizeof "linnet_devices");
  const auto fd = Bpf(BPF_PROG_LOAD, attr);  // the kernel opens it close-on-exec
  if (fd < 0) {
    const int err = errno;
    Error error = Error::FromErrno(err, "load the device program");
    if (err == EINVAL || err == ENOSYS) return std::move(error).As(Code::kUnimplemented);
    return error;
  }
  return UniqueFd(static_cast<int>(fd));
}

Result<void> AttachDeviceProgram(FdRef cgroup, FdRef program) {
  std::array<std::uint32_t, 64> ids{};  // BPF_CGROUP_MAX_PROGS
  bpf_attr query{};
  query.query.target_fd = static_cast<std::uint32_t>(cgroup.get());
  query.query.attach_type = BPF_CGROUP_DEVICE;
  query.query.prog_ids = Pointer(ids.data());
  query.query.prog_cnt = static_cast<std::uint32_t>(ids.size());
  if (Bpf(BPF_PROG_QUERY, query) < 0) return Error::FromErrno(errno, "query device programs");
  const std::span<const std::uint32_t> old(ids.data(), query.query.prog_cnt);

  // Attaching what is attached fails with EINVAL.
  const std::uint32_t own = old.empty() ? 0 : LN_TRY(ProgramId(program));
  if (std::find(old.begin(), old.end(), own) == old.end())
    LN_TRY(AttachOrDetach(BPF_PROG_ATTACH, cgroup, program));
  for (const std::uint32_t id : old) {
    if (id == own) continue;
    bpf_attr by_id{};
    by_id.prog_id = id;
    const UniqueFd other(static_cast<int>(Bpf(BPF_PROG_GET_FD_BY_ID, by_id)));
    if (!other) return Error::FromErrno(errno, "open the old device program");
    LN_TRY(AttachOrDetach(BPF_PROG_DETACH, cgroup, other));
  }
  return Ok();
}

}  // namespace linnet::runtime
