// SPDX-License-Identifier: Apache-2.0
#include "core/result.hpp"

#include <cerrno>
#include <memory>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "core/async.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::core::testing {
namespace {

constexpr int kErrorCount = static_cast<int>(Error::no_memory) + 1;

TEST(ErrnoTable, EveryCodeHasANameOfItsOwnAndANumber) {
  std::set<std::string_view> names;
  for (int i = 0; i < kErrorCount; ++i) {
    const auto code = static_cast<Error>(i);
    EXPECT_FALSE(to_string(code).empty());
    EXPECT_TRUE(names.insert(to_string(code)).second) << to_string(code);
    EXPECT_GT(to_errno(code), 0) << to_string(code);
    // What a number is read as is answered with the same number.
    EXPECT_EQ(to_errno(from_errno(to_errno(code))), to_errno(code)) << to_string(code);
  }
}

// What programs see: these are promises of the file system, whatever the code is called inside.
TEST(ErrnoTable, CallersSeeWhatIsPromised) {
  EXPECT_EQ(to_errno(Error::gone), ENOENT);
  EXPECT_EQ(to_errno(Error::stale), ESTALE);
  EXPECT_EQ(to_errno(Error::not_found), ENOENT);
  EXPECT_EQ(to_errno(Error::no_attribute), ENODATA);
  EXPECT_EQ(to_errno(Error::quota_exceeded), EDQUOT);
  EXPECT_EQ(to_errno(Error::not_permitted), EPERM);
  EXPECT_EQ(to_errno(Error::access_denied), EACCES);
  for (const Error lost : {Error::io, Error::timed_out, Error::unreachable, Error::damaged, Error::protocol}) {
    EXPECT_EQ(to_errno(lost), EIO) << to_string(lost);
  }
}

TEST(ErrnoTable, ReadsTheNumbersOfTheSystem) {
  EXPECT_EQ(from_errno(ENOENT), Error::not_found);
  EXPECT_EQ(from_errno(EACCES), Error::access_denied);
  EXPECT_EQ(from_errno(EINTR), Error::interrupted);
  EXPECT_EQ(from_errno(ENOSPC), Error::no_space);
  EXPECT_EQ(from_errno(EIO), Error::io);
  EXPECT_EQ(from_errno(EPIPE), Error::io);
  EXPECT_EQ(from_errno(0), Error::io);
}

TEST(FailureTest, SaysWhatAndWhere) {
  EXPECT_EQ(fail(Error::not_found).message(), "not found");
  EXPECT_EQ(fail(Error::not_found, "open /x").message(), "open /x: not found");
  EXPECT_EQ(fail_errno("open /x", ENOENT).message(), "open /x: not found");
  EXPECT_EQ(fail(Error::no_space, "put; " + fail(Error::no_space, "disk 1").message()).message(),
            "put; disk 1: no space left");
  EXPECT_NE(fail_errno("send", EPIPE).message().find("Broken pipe"), std::string::npos);
  std::ostringstream out;
  out << fail(Error::busy, "lock");
  EXPECT_EQ(out.str(), "lock: busy");
}

Result<int> half(int number) {
  if (number % 2 != 0) return fail(Error::invalid_argument, std::to_string(number) + " is odd");
  return number / 2;
}
Result<int> quarter(int number) {
  EPHFS_TRY(const int once, half(number));
  EPHFS_TRY(const int twice, half(once));
  return twice;
}
Result<> check_quarter(int number) {
  EPHFS_TRY_VOID(quarter(number));
  return {};
}
Result<std::unique_ptr<int>> owned(int number) {
  EPHFS_TRY(auto value, half(number));
  return std::make_unique<int>(value);
}

TEST(Try, GivesTheValueOrLeavesWithTheFailure) {
  EXPECT_EQ(*quarter(12), 3);
  EXPECT_EQ(quarter(6).error().detail, "3 is odd");
  EXPECT_TRUE(check_quarter(4));
  EXPECT_EQ(check_quarter(5).error().code, Error::invalid_argument);
  EXPECT_EQ(**owned(8), 4);
  EXPECT_FALSE(owned(9));
}

TEST(Try, WorksInCoroutines) {
  asio::io_context context;
  ephfs::testing::VirtualClock clock(context);
  auto quarter_later = [](int number) -> awaitable<Result<int>> {
    EPHFS_CO_TRY_VOID(half(number));
    EPHFS_CO_TRY(const int value, quarter(number));
    co_return value;
  };
  EXPECT_EQ(**clock.run(quarter_later(8)), 2);
  EXPECT_EQ(clock.run(quarter_later(7))->error().detail, "7 is odd");
}

TEST(ResultDeathTest, ReadingAFailureAsAValueAborts) {
  const Result<int> failed = fail(Error::damaged, "shard 7");
  EXPECT_DEATH((void)failed.value(), "shard 7");
}

}  // namespace
}  // namespace ephfs::core::testing
