// Everything that can be seen of a directory tree, to compare what different tools made of one
// archive.
#pragma once

#include <map>
#include <string>

namespace linnet::testing {

// By path ("/": the tree itself): kind and mode, owner, times, contents, targets, device numbers,
// the extended attributes that an archive may bring, and which names are one file. How many names a
// file has outside the tree does not show.
std::map<std::string, std::string> DescribeTree(const std::string& root);

// One line for each difference; empty: the same.
std::string CompareTrees(const std::map<std::string, std::string>& ours,
                         const std::map<std::string, std::string>& theirs);

}  // namespace linnet::testing
