#include "dbus/system_bus.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::network {
namespace {

static_assert(std::endian::native == std::endian::little, "messages are written as they lie");

constexpr std::size_t kHead = 16;  // up to the array of header fields, with its length
constexpr std::size_t kMaxMessage = 1U << 20;
enum Field : std::uint8_t {
  kPath = 1,
  kInterface = 2,
  kMember = 3,
  kErrorName = 4,
  kReplySerial = 5,
  kDestination = 6,
  kSignature = 8,
};

void Align(std::string& out, std::size_t to) { out.resize((out.size() + to - 1) / to * to, '\0'); }

void Put32(std::string& out, std::uint32_t value) {
  Align(out, 4);
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void PutString(std::string& out, std::string_view text) {
  Put32(out, static_cast<std::uint32_t>(text.size()));
  out.append(text) += '\0';
}

void PutSignature(std::string& out, std::string_view text) {
  out += static_cast<char>(text.size());
  out.append(text) += '\0';
}

void PutField(std::string& out, Field field, char type, std::string_view text) {
  Align(out, 8);
  out += static_cast<char>(field);
  PutSignature(out, std::string_view(&type, 1));
  type == 'g' ? PutSignature(out, text) : PutString(out, text);
}

// Reads with bounds; once past the end everything is 0 or empty and `ok` is false.
struct Reader {
  std::string_view bytes;
  std::size_t at = 0;
  bool ok = true;

  void Align(std::size_t to) { at = (at + to - 1) / to * to; }
  std::uint8_t Byte() {
    if (at >= bytes.size()) return Fail();
    return static_cast<std::uint8_t>(bytes[at++]);
  }
  std::uint32_t U32() {
    Align(4);
    std::uint32_t value = 0;
    if (at + 4 > bytes.size()) return Fail();
    std::memcpy(&value, &bytes[at], 4);
    at += 4;
    return value;
  }
  std::string Text(std::size_t length) {
    if (at > bytes.size() || length + 1 > bytes.size() - at) return Fail(), std::string();
    std::string out(bytes.substr(at, length));
    at += length + 1;
    return out;
  }
  std::string String() { return Text(U32()); }
  std::string Signature() { return Text(Byte()); }
  std::uint8_t Fail() {
    ok = false;
    at = bytes.size();
    return 0;
  }
};

std::size_t Padded(std::size_t size) { return (size + 7) / 8 * 8; }

}  // namespace

std::string EncodeBusCall(const BusCall& call, std::uint32_t serial) {
  std::string body;
  for (const std::string& argument : call.arguments) PutString(body, argument);
  std::string fields(kHead, '\0');  // for the alignment; cut off below
  PutField(fields, kPath, 'o', call.path);
  PutField(fields, kInterface, 's', call.interface);
  PutField(fields, kMember, 's', call.member);
  PutField(fields, kDestination, 's', call.destination);
  if (!call.arguments.empty())
    PutField(fields, kSignature, 'g', std::string(call.arguments.size(), 's'));
  fields.erase(0, kHead);
  std::string out("l\x01\0\x01", 4);  // little endian, a call, no flags, version 1
  Put32(out, static_cast<std::uint32_t>(body.size()));
  Put32(out, serial);
  Put32(out, static_cast<std::uint32_t>(fields.size()));
  out += fields;
  Align(out, 8);
  return out + body;
}

std::size_t BusMessageLength(std::string_view head) {
  if (head.size() < kHead || head[0] != 'l' || head[3] != 1) return 0;
  Reader r{.bytes = head.substr(0, kHead), .at = 4};
  const std::size_t body = r.U32();
  (void)r.U32();
  const std::size_t fields = r.U32();
  if (body > kMaxMessage || fields > kMaxMessage) return 0;
  return kHead + Padded(fields) + body;
}

Result<BusMessage> DecodeBusMessage(std::string_view bytes) {
  if (bytes.size() < kHead || BusMessageLength(bytes) != bytes.size())
    return InvalidArgument("D-Bus: not a message");
  BusMessage out;
  out.type = static_cast<std::uint8_t>(bytes[1]);
  Reader r{.bytes = bytes, .at = 12};
  const std::size_t end = kHead + r.U32();
  std::string signature;
  while (r.ok && r.at < end) {
    r.Align(8);
    const std::uint8_t field = r.Byte();
    const std::string type = r.Signature();
    std::string text;
    std::uint32_t number = 0;
    if (type == "g") {
      text = r.Signature();
    } else if (type == "s" || type == "o") {
      text = r.String();
    } else if (type == "u") {
      number = r.U32();
    } else {
      return InvalidArgument("D-Bus: a header field of type \"" + type + "\"");
    }
    if (field == kReplySerial) out.reply_to = number;
    if (field == kErrorName) out.error_name = text;
    if (field == kSignature) signature = text;
  }
  r.at = kHead + Padded(end - kHead);
  if (signature.starts_with('s')) out.value = r.String();
  if (signature.starts_with('b')) out.value = r.U32() != 0 ? "true" : "false";
  if (!r.ok) return InvalidArgument("D-Bus: a message ends early");
  return out;
}

Result<SystemBus> SystemBus::Connect(const std::string& socket_path,
                                     std::chrono::milliseconds limit) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(address.sun_path))
    return InvalidArgument("the D-Bus socket's path is too long: " + socket_path);
  std::memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return Error::FromErrno(errno, "open a socket");
  const timeval patience{.tv_sec = limit.count() / 1000, .tv_usec = limit.count() % 1000 * 1000};
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) < 0) {
    return Unavailable("no D-Bus at " + socket_path + ": " +
                       Error::FromErrno(errno, "connect").message());
  }
  SystemBus bus(std::move(fd));
  LN_TRY(bus.Authenticate());
  LN_TRY(bus.Call({.destination = "org.freedesktop.DBus",
                   .path = "/org/freedesktop/DBus",
                   .interface = "org.freedesktop.DBus",
                   .member = "Hello",
                   .arguments = {}}));
  return bus;
}

Result<void> SystemBus::Authenticate() const {
  std::string hello(1, '\0');
  hello += "AUTH EXTERNAL " + Hex(std::to_string(::getuid())) + "\r\n";
  LN_TRY(WriteAll(fd_, hello));
  std::string line;
  char c = 0;
  while (line.size() < 512 && c != '\n') {
    const ssize_t got = ::recv(fd_.get(), &c, 1, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Unavailable("D-Bus does not answer");
    line += c;
  }
  if (!line.starts_with("OK "))
    return Error(Code::kPermissionDenied, "D-Bus does not let us in: " + std::string(Trim(line)));
  return WriteAll(fd_, "BEGIN\r\n");
}

Result<std::string> SystemBus::Call(const BusCall& call) {
  const std::uint32_t serial = ++serial_;
  LN_TRY_CTX(WriteAll(fd_, EncodeBusCall(call, serial)), "D-Bus");
  const auto receive = [&](std::string& into, std::size_t size) -> Result<void> {
    while (into.size() < size) {
      const std::size_t have = into.size();
      into.resize(size);
      const ssize_t got = ::recv(fd_.get(), &into[have], size - have, 0);
      const int error = errno;
      into.resize(have + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
      if (got < 0 && error == EINTR) continue;
      if (got < 0) return Error::FromErrno(error, "answer of D-Bus to " + call.member);
      if (got == 0) return Unavailable("D-Bus closed the connection");
    }
    return Ok();
  };
  for (;;) {
    std::string bytes;
    LN_TRY(receive(bytes, kHead));
    const std::size_t length = BusMessageLength(bytes);
    if (length < kHead || length > 2 * kMaxMessage)
      return Error(Code::kDataLoss, "D-Bus sent what is no message");
    LN_TRY(receive(bytes, length));
    BusMessage message = LN_TRY(DecodeBusMessage(bytes));
    if (message.reply_to != serial) continue;  // a signal
    if (message.type == 2) return std::move(message.value);
    return FailedPrecondition(message.error_name + ": " + message.value);
  }
}

}  // namespace linnet::network
