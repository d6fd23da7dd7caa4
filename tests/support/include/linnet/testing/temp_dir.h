// A directory for one test, and trees of files in it.
#pragma once

#include <stdlib.h>

#include <initializer_list>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "linnet/base/check.h"
#include "linnet/base/file.h"

namespace linnet::testing {

// Removed with all that is in it at the end.
class TempDir {
 public:
  TempDir() {
    std::string name = ::testing::TempDir() + "linnet-test-XXXXXX";
    LN_CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() { (void)RemoveAll(path_); }  // left-overs in the temporary directory fail no test

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  // Directories are made as needed; a name that ends with "/" is a directory.
  void Write(const std::string& name, const std::string& contents = "") const {
    const std::string path = path_ + "/" + name;
    LN_CHECK(MakeDirs(name.ends_with('/') ? path : Dirname(path), 0755).has_value());
    if (!name.ends_with('/')) LN_CHECK(ReplaceFile(path, contents, 0644).has_value());
  }
  void Write(std::initializer_list<std::pair<const char*, const char*>> files) const {
    for (const auto& [name, contents] : files) Write(name, contents);
  }
  // The file's contents; "<absent>" where there is none.
  std::string Read(const std::string& name) const {
    auto text = ReadFile(path_ + "/" + name);
    return text ? *std::move(text) : std::string("<absent>");
  }

 private:
  std::string path_;
};

}  // namespace linnet::testing
