// SPDX-License-Identifier: Apache-2.0
// Instants, spans and deadlines. Wall time is milliseconds since the Unix epoch; a deadline is exclusive.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace ephfs::core {

using Milliseconds = std::chrono::milliseconds;
using Nanoseconds = std::chrono::nanoseconds;

/// A moment of wall time.
struct Instant {
  std::int64_t ms = 0;  // since the epoch
  friend constexpr auto operator<=>(const Instant&, const Instant&) = default;
  friend constexpr Instant operator+(Instant at, Milliseconds span) { return {at.ms + span.count()}; }
  friend constexpr Instant operator-(Instant at, Milliseconds span) { return {at.ms - span.count()}; }
  friend constexpr Milliseconds operator-(Instant a, Instant b) { return Milliseconds{a.ms - b.ms}; }
};

/// A moment of the machine's own time: nanoseconds since boot, suspension included; never set, never back.
struct Boottime {
  std::int64_t ns = 0;
  friend constexpr auto operator<=>(const Boottime&, const Boottime&) = default;
  friend constexpr Boottime operator+(Boottime at, Nanoseconds span) { return {at.ns + span.count()}; }
  friend constexpr Nanoseconds operator-(Boottime a, Boottime b) { return Nanoseconds{a.ns - b.ns}; }
};

/// The instant, exclusive, at which something is gone; or never.
class Deadline {
 public:
  constexpr Deadline() = default;  // never
  constexpr explicit Deadline(Instant at) : ms_(at.ms) {}
  [[nodiscard]] static constexpr Deadline never() { return {}; }

  [[nodiscard]] constexpr bool is_never() const { return ms_ == kNever; }
  /// The instant. Only of a deadline that is not never.
  [[nodiscard]] constexpr Instant instant() const { return {ms_}; }
  [[nodiscard]] constexpr bool passed(Instant now) const { return now.ms >= ms_; }
  /// Milliseconds as the formats carry them: kNever is the largest.
  [[nodiscard]] constexpr std::int64_t raw() const { return ms_; }
  [[nodiscard]] static constexpr Deadline from_raw(std::int64_t ms) { return Deadline(Instant{ms}); }

  friend constexpr auto operator<=>(const Deadline&, const Deadline&) = default;

 private:
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
  std::int64_t ms_ = kNever;
};

/// The latest instant that has a calendar form here: 9999-12-31T23:59:59.999Z.
constexpr Instant kInstantMax{253402300799999};

/// A span as people write one: 90s, 15m, 6h, 7d, 2w, 500ms, 1h30m; a bare number is seconds. Zero, negative, an
/// unknown unit, or more than ten thousand years is invalid_argument.
[[nodiscard]] Result<Milliseconds> parse_span(std::string_view text);
/// The shortest exact form that parse_span reads back: "7d", "1h30m", "250ms".
[[nodiscard]] std::string format_span(Milliseconds span);
/// For people: "1 h 59 min", "3 s".
[[nodiscard]] std::string describe_span(Milliseconds span);

/// RFC 3339 with any offset and up to 9 digits of fraction (cut to ms), or "@MS", milliseconds since the epoch.
[[nodiscard]] Result<Instant> parse_instant(std::string_view text);
/// RFC 3339 in UTC with milliseconds: 2026-11-21T05:27:35.000Z.
[[nodiscard]] std::string format_instant(Instant at);

}  // namespace ephfs::core
