// SPDX-License-Identifier: Apache-2.0
#include "core/time.hpp"

#include <array>
#include <charconv>
#include <cstdio>
#include <optional>

namespace ephfs::core {
namespace {

struct Unit {
  std::string_view suffix;  // as parse_span takes it
  std::string_view words;   // as describe_span says it
  std::uint64_t ms;
};

// From long to short; weeks are read but not written, because "14d" is plainer than "2w" and "7d" than "1w".
constexpr Unit kWeek{"w", "w", 7ULL * 24 * 3600 * 1000};
constexpr std::array kUnits{
    Unit{"d", "d", 24ULL * 3600 * 1000},
    Unit{"h", "h", 3600ULL * 1000},
    Unit{"m", "min", 60ULL * 1000},
    Unit{"s", "s", 1000},
    Unit{"ms", "ms", 1},
};
constexpr Instant kInstantMin{-62'167'219'200'000};                    // 0000-01-01T00:00:00.000Z
constexpr std::uint64_t kSpanMaxMs = 3'652'425ULL * 24 * 3600 * 1000;  // ten thousand Gregorian years

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::optional<std::uint64_t> unit_ms(std::string_view suffix) {
  if (suffix == kWeek.suffix) return kWeek.ms;
  for (const Unit& unit : kUnits) {
    if (unit.suffix == suffix) return unit.ms;
  }
  return std::nullopt;
}

// Takes the digits in front of `text` off it; none when there are none or they do not fit.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

Failure bad_span(std::string_view text, std::string_view why) {
  return fail(Error::invalid_argument,
              "'" + std::string(text) + "' is not a span like 90s, 15m, 6h, 7d or 1h30m: " + std::string(why));
}

std::uint64_t magnitude(Milliseconds span) {
  const auto count = static_cast<std::uint64_t>(span.count());
  return span.count() < 0 ? 0 - count : count;
}

// Reads the fixed-width fields of RFC 3339 one after the other; any mismatch makes it fail for good.
class FieldReader {
 public:
  explicit FieldReader(std::string_view text) : rest_(text) {}

  int number(std::size_t digits) {
    int value = 0;
    for (std::size_t i = 0; i < digits; ++i) value = value * 10 + digit();
    return value;
  }
  char one_of(std::string_view choices) {
    if (rest_.empty() || choices.find(rest_.front()) == std::string_view::npos) {
      good_ = false;
      return '\0';
    }
    const char taken = rest_.front();
    rest_.remove_prefix(1);
    return taken;
  }
  // An optional ".digits", one to nine of them, in milliseconds, cut.
  int fraction_ms() {
    if (rest_.empty() || rest_.front() != '.') return 0;
    rest_.remove_prefix(1);
    int value = 0;
    std::size_t digits = 0;
    for (; !rest_.empty() && is_digit(rest_.front()); ++digits) {
      const int next = digit();
      if (digits < 3) value = value * 10 + next;
    }
    good_ = good_ && digits >= 1 && digits <= 9;
    for (; digits < 3; ++digits) value *= 10;
    return value;
  }
  // 'Z' or +HH:MM or -HH:MM.
  std::chrono::minutes offset() {
    const char sign = one_of("Zz+-");
    if (sign == '\0' || sign == 'Z' || sign == 'z') return {};
    const int hours = number(2);
    one_of(":");
    const int minutes = number(2);
    good_ = good_ && hours < 24 && minutes < 60;
    const auto offset = std::chrono::hours{hours} + std::chrono::minutes{minutes};
    return sign == '-' ? -offset : offset;
  }
  [[nodiscard]] bool done() const { return good_ && rest_.empty(); }

 private:
  int digit() {
    const char taken = one_of("0123456789");
    return taken == '\0' ? 0 : taken - '0';
  }

  std::string_view rest_;
  bool good_ = true;
};

std::optional<Instant> parse_rfc3339(std::string_view text) {
  namespace chrono = std::chrono;
  FieldReader fields(text);
  const int year = fields.number(4);
  fields.one_of("-");
  const int month = fields.number(2);
  fields.one_of("-");
  const int day = fields.number(2);
  fields.one_of("Tt ");
  const int hour = fields.number(2);
  fields.one_of(":");
  const int minute = fields.number(2);
  fields.one_of(":");
  const int second = fields.number(2);
  const int fraction = fields.fraction_ms();
  const chrono::minutes offset = fields.offset();
  if (!fields.done() || hour > 23 || minute > 59 || second > 60) return std::nullopt;

  const chrono::year_month_day date{chrono::year{year}, chrono::month{static_cast<unsigned>(month)},
                                    chrono::day{static_cast<unsigned>(day)}};
  if (!date.ok()) return std::nullopt;
  const chrono::sys_seconds at =
      chrono::sys_days{date} + chrono::hours{hour} + chrono::minutes{minute} + chrono::seconds{second} - offset;
  // A leap second ends a UTC day; POSIX time counts it as the first second of the next.
  if (second == 60 && at != chrono::floor<chrono::days>(at)) return std::nullopt;
  return Instant{at.time_since_epoch().count() * 1000 + fraction};
}

}  // namespace

Result<Milliseconds> parse_span(std::string_view text) {
  std::uint64_t total = 0;
  std::uint64_t last_unit = std::numeric_limits<std::uint64_t>::max();
  std::string_view rest = text;
  do {
    const auto number = take_number(rest);
    if (!number) return bad_span(text, "a number that fits is missing");
    std::size_t length = 0;
    while (length < rest.size() && !is_digit(rest[length])) ++length;
    const std::string_view suffix = rest.substr(0, length);
    rest.remove_prefix(length);

    const bool bare = suffix.empty() && rest.empty() && last_unit == std::numeric_limits<std::uint64_t>::max();
    const auto unit = bare ? std::optional<std::uint64_t>(1000) : unit_ms(suffix);
    if (!unit) return bad_span(text, "the units are w, d, h, m, s and ms");
    if (*unit >= last_unit) return bad_span(text, "each unit stands once, the longest first");
    last_unit = *unit;
    if (*number > (kSpanMaxMs - total) / *unit) return bad_span(text, "more than ten thousand years");
    total += *number * *unit;
  } while (!rest.empty());
  if (total == 0) return bad_span(text, "it is zero");
  return Milliseconds{static_cast<std::int64_t>(total)};
}

std::string format_span(Milliseconds span) {
  std::uint64_t left = magnitude(span);
  if (left == 0) return "0s";
  std::string text = span.count() < 0 ? "-" : "";
  for (const Unit& unit : kUnits) {
    if (left < unit.ms) continue;
    text += std::to_string(left / unit.ms);
    text += unit.suffix;
    left %= unit.ms;
  }
  return text;
}

std::string describe_span(Milliseconds span) {
  std::uint64_t left = magnitude(span);
  if (left == 0) return "0 s";
  std::string text = span.count() < 0 ? "-" : "";
  std::size_t first = 0;
  while (left < kUnits[first].ms) ++first;
  // Two units are as much as one can take in; milliseconds matter only below a second.
  text += std::to_string(left / kUnits[first].ms) + " " + std::string(kUnits[first].words);
  left %= kUnits[first].ms;
  if (first + 2 < kUnits.size()) {
    const Unit& next = kUnits[first + 1];
    if (left >= next.ms) text += " " + std::to_string(left / next.ms) + " " + std::string(next.words);
  }
  return text;
}

Result<Instant> parse_instant(std::string_view text) {
  std::optional<Instant> at;
  if (text.starts_with('@')) {
    std::string_view rest = text.substr(1);
    const auto ms = take_number(rest);
    if (ms && rest.empty() && *ms <= static_cast<std::uint64_t>(kInstantMax.ms)) {
      at = Instant{static_cast<std::int64_t>(*ms)};
    }
  } else {
    at = parse_rfc3339(text);
  }
  if (!at || *at < kInstantMin || *at > kInstantMax) {
    return fail(Error::invalid_argument,
                "'" + std::string(text) + "' is not a time like 2026-11-21T05:27:35Z or @MILLISECONDS");
  }
  return *at;
}

std::string format_instant(Instant at) {
  namespace chrono = std::chrono;
  if (at < kInstantMin || at > kInstantMax) return "@" + std::to_string(at.ms);
  const chrono::sys_time<Milliseconds> time{Milliseconds{at.ms}};
  const auto day = chrono::floor<chrono::days>(time);
  const chrono::year_month_day date{day};
  const chrono::hh_mm_ss clock{time - day};
  std::array<char, 96> text{};
  const int length =
      std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ", static_cast<int>(date.year()),
                    static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                    static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                    static_cast<int>(clock.seconds().count()), static_cast<int>(clock.subseconds().count()));
  return {text.data(), static_cast<std::size_t>(length)};
}

}  // namespace ephfs::core
