// Result in tests.
#pragma once

#include <utility>

#include <gtest/gtest.h>

#include "linnet/base/result.h"

// auto fd = LN_ASSERT_OK(Open(path));  ends the test (a function that returns void) with the
// error's message.
#define LN_ASSERT_OK(expr)                                                         \
  __extension__({                                                                  \
    auto ln_asserted = (expr);                                                     \
    if (!ln_asserted) GTEST_FAIL() << #expr ": " << ln_asserted.error().message(); \
    *std::move(ln_asserted);                                                       \
  })

#define LN_EXPECT_OK(expr)                                                              \
  do {                                                                                  \
    const auto ln_expected = (expr);                                                    \
    EXPECT_TRUE(ln_expected.has_value())                                                \
        << #expr ": " << (ln_expected ? std::string() : ln_expected.error().message()); \
  } while (false)

// The code, and (unless empty) a part of the message.
#define LN_EXPECT_ERROR(expr, expected_code, part)                                                 \
  do {                                                                                             \
    const auto ln_expected = (expr);                                                               \
    if (ln_expected) {                                                                             \
      ADD_FAILURE() << #expr " succeeded";                                                         \
    } else {                                                                                       \
      EXPECT_EQ(::linnet::CodeName(ln_expected.error().code()), ::linnet::CodeName(expected_code)) \
          << ln_expected.error().message();                                                        \
      EXPECT_NE(ln_expected.error().message().find(part), std::string::npos)                       \
          << ln_expected.error().message();                                                        \
    }                                                                                              \
  } while (false)
