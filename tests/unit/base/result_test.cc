#include "linnet/base/result.h"

#include <cerrno>
#include <memory>
#include <string>

#include <gtest/gtest.h>

namespace linnet {
namespace {

TEST(Error, FromErrno_KeepsNumberAndNamesTheObject) {
  const Error e = Error::FromErrno(ENOENT, "open /x");
  EXPECT_EQ(e.code(), Code::kNotFound);
  EXPECT_EQ(e.origin(), Origin::kErrno);
  EXPECT_EQ(e.value(), ENOENT);
  EXPECT_TRUE(e.IsErrno(ENOENT));
  EXPECT_FALSE(e.IsErrno(EPERM));
  EXPECT_EQ(e.message(), "open /x: No such file or directory");
}

TEST(Error, With_PrependsAndKeepsTheRest) {
  const Error inner = Error::FromErrno(EACCES, "open y");
  const Error copy = inner.With("pod a");
  EXPECT_EQ(copy.message(), "pod a: open y: Permission denied");
  EXPECT_EQ(inner.message(), "open y: Permission denied");
  const Error outer = Error(inner).With("x").With("z");
  EXPECT_EQ(outer.message(), "z: x: open y: Permission denied");
  EXPECT_TRUE(outer.IsErrno(EACCES));
  EXPECT_EQ(outer.code(), Code::kPermissionDenied);
}

TEST(Error, As_ChangesTheCodeAlone) {
  const Error e = Error::FromErrno(EINVAL, "bpf").As(Code::kUnimplemented);
  EXPECT_TRUE(e.Is(Code::kUnimplemented));
  EXPECT_TRUE(e.IsErrno(EINVAL));
}

TEST(Error, CodeOfEveryErrnoThatCallersBranchOn) {
  EXPECT_EQ(CodeFromErrno(ENOENT), Code::kNotFound);
  EXPECT_EQ(CodeFromErrno(ESRCH), Code::kNotFound);
  EXPECT_EQ(CodeFromErrno(ENODEV), Code::kNotFound);
  EXPECT_EQ(CodeFromErrno(EEXIST), Code::kAlreadyExists);
  EXPECT_EQ(CodeFromErrno(EBUSY), Code::kFailedPrecondition);
  EXPECT_EQ(CodeFromErrno(EPERM), Code::kPermissionDenied);
  EXPECT_EQ(CodeFromErrno(ENOSPC), Code::kResourceExhausted);
  EXPECT_EQ(CodeFromErrno(EMFILE), Code::kResourceExhausted);
  EXPECT_EQ(CodeFromErrno(ETIMEDOUT), Code::kDeadlineExceeded);
  EXPECT_EQ(CodeFromErrno(ECONNREFUSED), Code::kUnavailable);
  EXPECT_EQ(CodeFromErrno(ENOSYS), Code::kUnimplemented);
  EXPECT_EQ(CodeFromErrno(EINVAL), Code::kInvalidArgument);
  EXPECT_EQ(CodeFromErrno(EIO), Code::kInternal);
}

TEST(Error, CodeNames) {
  EXPECT_EQ(CodeName(Code::kInvalidArgument), "InvalidArgument");
  EXPECT_EQ(CodeName(Code::kDataLoss), "DataLoss");
  EXPECT_EQ(CodeName(Code::kInternal), "Internal");
}

TEST(Result, ValueOrError) {
  Result<int> good = 5;
  ASSERT_TRUE(good.has_value());
  EXPECT_EQ(*good, 5);
  Result<int> bad = NotFound("x");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().message(), "x");
  EXPECT_EQ(std::move(bad).value_or(7), 7);
}

TEST(Result, ConvertsValues) {
  const auto text = []() -> Result<std::string> { return "literal"; };
  EXPECT_EQ(*text(), "literal");
  const auto pointer = []() -> Result<std::unique_ptr<const int>> {
    return std::make_unique<int>(3);
  };
  EXPECT_EQ(**pointer(), 3);
}

TEST(Result, MoveOnlyValues) {
  Result<std::unique_ptr<int>> r = std::make_unique<int>(4);
  const std::unique_ptr<int> moved = *std::move(r);
  EXPECT_EQ(*moved, 4);
}

Result<int> Half(int n) {
  if (n % 2 != 0) return InvalidArgument(std::to_string(n) + " is odd");
  return n / 2;
}
Result<int> Quarter(int n) {
  const int half = LN_TRY(Half(n));
  return LN_TRY_CTX(Half(half), "second");
}
Result<void> Check(int n, bool* reached) {
  LN_TRY(Half(n));
  *reached = true;
  return Ok();
}

TEST(LnTry, ReturnsTheError) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(3).error().message(), "3 is odd");
  EXPECT_EQ(Quarter(6).error().message(), "second: 3 is odd");
  bool reached = false;
  EXPECT_FALSE(Check(1, &reached));
  EXPECT_FALSE(reached);
  EXPECT_TRUE(Check(2, &reached));
  EXPECT_TRUE(reached);
}

TEST(LnTry, ContextIsEvaluatedOnFailureOnly) {
  int evaluated = 0;
  const auto context = [&] {
    ++evaluated;
    return std::string("c");
  };
  const auto run = [&](int n) -> Result<int> { return LN_TRY_CTX(Half(n), context()); };
  EXPECT_TRUE(run(2));
  EXPECT_EQ(evaluated, 0);
  EXPECT_FALSE(run(1));
  EXPECT_EQ(evaluated, 1);
}

TEST(ResultDeathTest, WrongAccess_Aborts) {
  Result<int> bad = NotFound("x");
  EXPECT_DEATH((void)*bad, "check failed");
  Result<void> good;
  EXPECT_DEATH((void)good.error(), "check failed");
}

}  // namespace
}  // namespace linnet
