// SPDX-License-Identifier: Apache-2.0
#include "core/time.hpp"

#include <gtest/gtest.h>

#include "tests/support/seeded.hpp"

namespace ephfs::core::testing {
namespace {

constexpr std::int64_t kSecond = 1000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kHour = 60 * kMinute;
constexpr std::int64_t kDay = 24 * kHour;

TEST(Span, ReadsWhatPeopleWrite) {
  const std::pair<const char*, std::int64_t> good[] = {
      {"90s", 90 * kSecond},
      {"15m", 15 * kMinute},
      {"6h", 6 * kHour},
      {"7d", 7 * kDay},
      {"2w", 14 * kDay},
      {"500ms", 500},
      {"1h30m", kHour + 30 * kMinute},
      {"1w1d1h1m1s1ms", 8 * kDay + kHour + kMinute + kSecond + 1},
      {"0h5m", 5 * kMinute},
      {"60", 60 * kSecond},
      {"007s", 7 * kSecond},
      {"3652425d", 3652425 * kDay},
  };
  for (const auto& [text, ms] : good) {
    const auto span = parse_span(text);
    ASSERT_TRUE(span) << text << ": " << span.error();
    EXPECT_EQ(span->count(), ms) << text;
  }
}

TEST(Span, RefusesTheRest) {
  for (const char* bad : {"",
                          " ",
                          "s",
                          "m5",
                          "0",
                          "0s",
                          "0h0m",
                          "-5s",
                          "+5s",
                          "-1",
                          "5x",
                          "5y",
                          "5M",
                          "5S",
                          "5 s",
                          " 5s",
                          "5s ",
                          "1.5h",
                          "1,5h",
                          "1h30",
                          "30m1h",
                          "1h1h",
                          "1m1ms1s",
                          "5msx",
                          "never",
                          "1e3",
                          "0x10",
                          "3652426d",
                          "3652425d1ms",
                          "521776w",
                          "18446744073709551615",
                          "18446744073709551616",
                          "9223372036854775807s",
                          "99999999999999999999999d"}) {
    const auto span = parse_span(bad);
    ASSERT_FALSE(span) << bad;
    EXPECT_EQ(span.error().code, Error::invalid_argument);
    EXPECT_NE(span.error().detail.find(bad), std::string::npos);
  }
}

TEST(Span, IsWrittenInTheFormThatIsRead) {
  EXPECT_EQ(format_span(Milliseconds{7 * kDay}), "7d");
  EXPECT_EQ(format_span(Milliseconds{kHour + 30 * kMinute}), "1h30m");
  EXPECT_EQ(format_span(Milliseconds{250}), "250ms");
  EXPECT_EQ(format_span(Milliseconds{kDay + 1}), "1d1ms");
  EXPECT_EQ(format_span(Milliseconds{0}), "0s");
  EXPECT_EQ(format_span(Milliseconds{-90 * kSecond}), "-1m30s");

  ephfs::testing::Random random;
  EPHFS_TRACE_SEED(random);
  for (int i = 0; i < 2000; ++i) {
    const Milliseconds span{
        static_cast<std::int64_t>(1 + random.below(3652425ULL * kDay) / (1 + random.below(1'000'000)))};
    const auto back = parse_span(format_span(span));
    ASSERT_TRUE(back) << format_span(span);
    EXPECT_EQ(*back, span);
  }
}

TEST(Span, IsDescribedInTwoUnits) {
  EXPECT_EQ(describe_span(Milliseconds{kHour + 59 * kMinute + 59 * kSecond}), "1 h 59 min");
  EXPECT_EQ(describe_span(Milliseconds{3 * kSecond + 999}), "3 s");
  EXPECT_EQ(describe_span(Milliseconds{6 * kDay + 23 * kHour}), "6 d 23 h");
  EXPECT_EQ(describe_span(Milliseconds{2 * kDay + 5 * kMinute}), "2 d");
  EXPECT_EQ(describe_span(Milliseconds{kMinute + 5 * kSecond}), "1 min 5 s");
  EXPECT_EQ(describe_span(Milliseconds{999}), "999 ms");
  EXPECT_EQ(describe_span(Milliseconds{0}), "0 s");
  EXPECT_EQ(describe_span(Milliseconds{-kHour}), "-1 h");
  EXPECT_EQ(describe_span(Milliseconds::min()).substr(0, 2), "-1");
}

TEST(InstantText, ReadsRfc3339) {
  const std::pair<const char*, std::int64_t> good[] = {
      {"1970-01-01T00:00:00Z", 0},
      {"2026-11-21T05:27:35.000Z", 1795238855000},
      {"2026-11-21t05:27:35z", 1795238855000},
      {"2026-11-21 05:27:35Z", 1795238855000},
      {"2026-11-21T06:57:35+01:30", 1795238855000},
      {"2026-11-20T21:27:35-08:00", 1795238855000},
      {"1970-01-01T00:00:00.5Z", 500},
      {"1970-01-01T00:00:00.001999999Z", 1},
      {"1969-12-31T23:59:59.999Z", -1},
      {"1969-12-31T23:59:59.9999Z", -1},
      {"2024-02-29T00:00:00Z", 1709164800000},
      {"2000-02-29T00:00:00Z", 951782400000},
      {"9999-12-31T23:59:59.999Z", kInstantMax.ms},
      // Leap seconds end a UTC day, wherever the clock hangs.
      {"1990-12-31T23:59:60Z", 662688000000},
      {"1990-12-31T15:59:60-08:00", 662688000000},
      {"@0", 0},
      {"@1795238855123", 1795238855123},
      {"@253402300799999", kInstantMax.ms},
  };
  for (const auto& [text, ms] : good) {
    const auto at = parse_instant(text);
    ASSERT_TRUE(at) << text << ": " << at.error();
    EXPECT_EQ(at->ms, ms) << text;
  }
}

TEST(InstantText, RefusesWhatNoCalendarHas) {
  for (const char* bad : {"",
                          "@",
                          "@-1",
                          "@+1",
                          "@1 ",
                          "@1x",
                          "@253402300800000",
                          "@9223372036854775808",
                          "now",
                          "2026-11-21",
                          "2026-11-21T05:27Z",
                          "2026-11-21T05:27:35",
                          "2026-11-21T05:27:35.Z",
                          "2026-11-21T05:27:35.1234567890Z",
                          "2026-11-21T05:27:35,5Z",
                          "2026-11-21T24:00:00Z",
                          "2026-11-21T05:60:00Z",
                          "2026-11-21T05:27:61Z",
                          "2026-11-21T05:27:60Z",
                          "2026-13-01T00:00:00Z",
                          "2026-00-01T00:00:00Z",
                          "2026-01-00T00:00:00Z",
                          "2026-01-32T00:00:00Z",
                          "2026-02-29T00:00:00Z",
                          "1900-02-29T00:00:00Z",
                          "2026-04-31T00:00:00Z",
                          "2026-11-21T05:27:35+24:00",
                          "2026-11-21T05:27:35+01:60",
                          "2026-11-21T05:27:35+0100",
                          "2026-11-21T05:27:35+01",
                          "2026-11-21T05:27:35ZZ",
                          " 2026-11-21T05:27:35Z",
                          "2026-11-21T05:27:35Z ",
                          "26-11-21T05:27:35Z",
                          "+2026-11-21T05:27:35Z",
                          "-026-11-21T05:27:35Z",
                          "2026/11/21T05:27:35Z",
                          "9999-12-31T23:59:59-00:01",
                          "0000-01-01T00:00:00+00:01",
                          "9999-12-31T23:59:60Z"}) {
    const auto at = parse_instant(bad);
    ASSERT_FALSE(at) << bad;
    EXPECT_EQ(at.error().code, Error::invalid_argument);
  }
}

TEST(InstantText, IsWrittenInUtcWithMilliseconds) {
  EXPECT_EQ(format_instant({1795238855000}), "2026-11-21T05:27:35.000Z");
  EXPECT_EQ(format_instant({-1}), "1969-12-31T23:59:59.999Z");
  EXPECT_EQ(format_instant(kInstantMax), "9999-12-31T23:59:59.999Z");
  EXPECT_EQ(format_instant(*parse_instant("0000-01-01T00:00:00Z")), "0000-01-01T00:00:00.000Z");
  // What has no calendar form is still told apart.
  EXPECT_EQ(format_instant({kInstantMax.ms + 1}), "@253402300800000");
  EXPECT_EQ(format_instant({std::numeric_limits<std::int64_t>::min()}), "@-9223372036854775808");
}

TEST(InstantText, ComesBackAsItWas) {
  ephfs::testing::Random random;
  EPHFS_TRACE_SEED(random);
  for (int i = 0; i < 2000; ++i) {
    const Instant at{static_cast<std::int64_t>(random.below(253402300800000ULL))};
    const auto back = parse_instant(format_instant(at));
    ASSERT_TRUE(back) << format_instant(at);
    EXPECT_EQ(*back, at);
  }
}

TEST(DeadlineTest, IsExclusiveAndMayBeNever) {
  const Deadline deadline(Instant{1000});
  EXPECT_FALSE(deadline.passed({999}));
  EXPECT_TRUE(deadline.passed({1000}));
  EXPECT_TRUE(deadline.passed({1001}));
  EXPECT_FALSE(Deadline::never().passed(kInstantMax));
  EXPECT_LT(deadline, Deadline::never());
  EXPECT_EQ(Deadline::from_raw(Deadline::never().raw()), Deadline::never());
  EXPECT_EQ(Deadline::from_raw(1000), deadline);
}

}  // namespace
}  // namespace ephfs::core::testing
