#include "parse.h"

#include <cmath>
#include <cstdlib>

#include "linnet/base/clock.h"
#include "linnet/base/file.h"
#include "linnet/base/ip.h"
#include "linnet/base/text.h"

namespace linnet::cli {
namespace {

Result<int> Port(const std::string& text, const std::string& whole) {
  auto port = ParseNumber<std::uint16_t>(text);
  if (!port || *port == 0)
    return InvalidArgument("\"" + whole + "\": \"" + text + "\" is not a port (1–65535)");
  return static_cast<int>(*port);
}

Result<double> Decimal(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value) || value <= 0) {
    return InvalidArgument("\"" + text + "\" is not a number above 0");
  }
  return value;
}

}  // namespace

Result<PortSpec> ParsePort(const std::string& text) {
  PortSpec out;
  std::string rest = text;
  if (const std::size_t slash = rest.rfind('/'); slash != std::string::npos) {
    out.protocol = ToLower(rest.substr(slash + 1));
    if (out.protocol != "tcp" && out.protocol != "udp" && out.protocol != "sctp") {
      return InvalidArgument("\"" + text + "\": the protocol is tcp, udp or sctp");
    }
    rest.resize(slash);
  }
  const std::size_t last = rest.rfind(':');
  if (last == std::string::npos)
    return InvalidArgument("\"" + text + "\" is not [ADDRESS:]HOST-PORT:POD-PORT[/PROTOCOL]");
  out.container = LN_TRY(Port(rest.substr(last + 1), text));
  rest.resize(last);
  if (const std::size_t colon = rest.rfind(':'); colon != std::string::npos) {
    std::string address = rest.substr(0, colon);
    if (address.size() > 2 && address.front() == '[' && address.back() == ']')
      address = address.substr(1, address.size() - 2);
    out.address = LN_TRY_CTX(IpAddress::Parse(address), "\"" + text + "\"").str();
    rest = rest.substr(colon + 1);
  }
  out.host = LN_TRY(Port(rest, text));
  return out;
}

Result<VolumeSpec> ParseVolume(const std::string& text) {
  const std::vector<std::string> parts = Split(text, ':');
  if (parts.size() < 2 || parts.size() > 3 || parts[0].empty() || parts[1].empty()) {
    return InvalidArgument("\"" + text + "\" is not HOST-PATH:POD-PATH[:OPTION,…]");
  }
  VolumeSpec out;
  out.host = parts[0];
  if (out.host.front() != '/') out.host = LN_TRY(RealPath(out.host));
  out.container = parts[1];
  if (out.container.front() != '/')
    return InvalidArgument("\"" + text + "\": the path in the pod must be absolute");
  if (parts.size() < 3) return out;
  for (const std::string& option : Split(parts[2], ',')) {
    if (option == "ro" || option == "rro") {
      out.readonly = true;
      out.recursive = option == "rro";
    } else if (option == "rslave" || option == "rshared") {
      out.propagation = option;
    } else if (option != "rw" && option != "rprivate") {
      return InvalidArgument("\"" + text + "\": option \"" + option +
                             "\" is none of ro, rro, rw, rprivate, rslave, rshared");
    }
  }
  return out;
}

Result<std::pair<std::string, std::string>> ParsePair(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    return InvalidArgument("\"" + text + "\" is not KEY=VALUE");
  return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

Result<std::optional<std::pair<std::string, std::string>>> ParseEnv(const std::string& text) {
  using Entry = std::optional<std::pair<std::string, std::string>>;
  if (text.find('=') != std::string::npos) return Entry(LN_TRY(ParsePair(text)));
  if (text.empty()) return InvalidArgument("an empty name");
  const char* value = std::getenv(text.c_str());  // NOLINT(concurrency-mt-unsafe): one thread
  return value == nullptr ? Entry() : Entry(std::pair(text, std::string(value)));
}

Result<std::uint64_t> ParseBytes(const std::string& text) {
  std::string number = ToLower(text);
  std::uint64_t unit = 1;
  if (number.ends_with("ib"))
    number.resize(number.size() - 2);
  else if (number.ends_with("b"))
    number.resize(number.size() - 1);
  if (!number.empty()) {
    switch (number.back()) {
      case 'k':
        unit = 1ULL << 10;
        break;
      case 'm':
        unit = 1ULL << 20;
        break;
      case 'g':
        unit = 1ULL << 30;
        break;
      case 't':
        unit = 1ULL << 40;
        break;
      default:
        break;
    }
    if (unit != 1) number.pop_back();
  }
  auto value = Decimal(number);
  if (!value || *value * static_cast<double>(unit) > 9e18)
    return InvalidArgument("\"" + text + "\" is not a size (64m, 1.5g, 4096)");
  return static_cast<std::uint64_t>(*value * static_cast<double>(unit));
}

Result<std::int64_t> ParseCpus(const std::string& text) {
  const double cpus = LN_TRY(Decimal(text));
  if (cpus < 0.01 || cpus > 10000)
    return InvalidArgument("\"" + text + "\" is out of range (0.01–10000)");
  return std::llround(cpus * 100'000);
}

Result<std::int64_t> ParseSeconds(const std::string& text) {
  if (auto whole = ParseNumber<std::uint32_t>(text)) return static_cast<std::int64_t>(*whole);
  const auto duration = LN_TRY(ParseDuration(text));
  return std::chrono::ceil<std::chrono::seconds>(duration).count();
}

}  // namespace linnet::cli
