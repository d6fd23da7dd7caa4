// Tar archives byte by byte, hostile ones included, and their compressed forms.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace linnet::oci::testing {

struct Member {
  std::string name;
  char type =
      '0';  // '0' file, '1' hard link, '2' symbolic link, '3' '4' devices, '5' directory, '6' fifo
  std::string data;
  std::string link;
  unsigned mode = 0644;
  std::uint64_t uid = 0, gid = 0;
  std::uint64_t mtime = 1'000'000'000;
  unsigned major = 0, minor = 0;
  std::map<std::string, std::string> pax;  // records of an extended header before it
  std::string raw_size;                    // 12 bytes in place of the size field
};

class TarBuilder {
 public:
  // An archive owned by the caller's user, so that tests run without root.
  TarBuilder();
  TarBuilder& Add(Member member);
  TarBuilder& File(const std::string& name, const std::string& data, unsigned mode = 0644);
  TarBuilder& Dir(const std::string& name, unsigned mode = 0755,
                  std::uint64_t mtime = 1'000'000'000);
  TarBuilder& Symlink(const std::string& name, const std::string& target);
  TarBuilder& HardLink(const std::string& name, const std::string& target);
  TarBuilder& Whiteout(const std::string& path);  // "a/b" → "a/.wh.b"
  TarBuilder& Raw(std::string_view bytes);
  // With the two zero blocks at the end.
  std::string Finish() const;
  const std::string& unfinished() const { return out_; }

  static std::string PaxRecord(const std::string& key, const std::string& value);

 private:
  std::string out_;
  std::uint64_t uid_ = 0, gid_ = 0;
};

std::string Gzip(std::string_view bytes, int level = 6, const std::string& file_name = "");
std::string Zstd(std::string_view bytes);

}  // namespace linnet::oci::testing
