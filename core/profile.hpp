// SPDX-License-Identifier: Apache-2.0
// Where time goes, while somebody asks: probes count calls, bytes and time, each with a histogram. While nobody asks, a
// probe costs the reading of one flag. Durations come from the processor's steady clock and not through the Clock seam:
// what is measured is this machine, and nothing is ever decided by it. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/time.hpp"

namespace ephfs::core {

namespace detail {
extern std::atomic<std::int64_t> profile_until_ns;  // by the steady clock; 0: off
[[nodiscard]] std::int64_t steady_ns();
}  // namespace detail

/// Whether probes count. They stop by themselves at the end of the time that was asked for.
[[nodiscard]] inline bool profiling() {
  return detail::profile_until_ns.load(std::memory_order_relaxed) != 0;
}

/// One thing that is measured. Static objects only: every probe stays in the list of all.
class Probe {
 public:
  /// Four to each doubling of nanoseconds: a bucket's bounds are 19 % apart at most.
  static constexpr std::size_t kBuckets = 256;

  /// `group` and `name` are literals: "operation", "lookup"; "stage", "encrypt".
  Probe(std::string_view group, std::string_view name);
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  void record(std::int64_t took_ns, std::uint64_t bytes) noexcept;

 private:
  friend struct ProbeReader;
  const std::string_view group_;
  const std::string_view name_;
  Probe* next_ = nullptr;
  std::atomic<std::uint64_t> count_{0};
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::uint64_t> total_ns_{0};
  std::atomic<std::uint64_t> longest_ns_{0};
  std::array<std::atomic<std::uint64_t>, kBuckets> buckets_{};
};

/// A measurement under way. It counts where finish() is called, on whatever thread; one that is not finished counts
/// nothing.
class ProbeSpan {
 public:
  ProbeSpan() = default;
  explicit ProbeSpan(Probe& probe) {
    if (!profiling()) return;
    probe_ = &probe;
    began_ns_ = detail::steady_ns();
  }
  void finish(std::uint64_t bytes = 0) {
    if (probe_ != nullptr) probe_->record(detail::steady_ns() - began_ns_, bytes);
    probe_ = nullptr;
  }

 private:
  Probe* probe_ = nullptr;
  std::int64_t began_ns_ = 0;
};

/// Measures to the end of its scope.
class ProbeScope {
 public:
  explicit ProbeScope(Probe& probe, std::uint64_t bytes = 0) : span_(probe), bytes_(bytes) {}
  ~ProbeScope() { span_.finish(bytes_); }
  ProbeScope(const ProbeScope&) = delete;
  ProbeScope& operator=(const ProbeScope&) = delete;

 private:
  ProbeSpan span_;
  const std::uint64_t bytes_;
};

/// What one probe counted.
struct ProbeReading {
  std::string_view group;
  std::string_view name;
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
  Nanoseconds total{0};
  Nanoseconds longest{0};
  std::array<std::uint64_t, Probe::kBuckets> buckets{};

  /// A duration that the given share (0 to 1) of the calls did not exceed, up to the width of a bucket; 0 without
  /// calls.
  [[nodiscard]] Nanoseconds quantile(double share) const;
};
/// The longest duration that falls into a bucket.
[[nodiscard]] Nanoseconds bucket_end(std::size_t bucket);

struct ProfileReading {
  Nanoseconds lasted{0};  // since it was started, at most what was asked for
  bool running = false;
  std::vector<ProbeReading> probes;  // those that counted something, by group and name
};

constexpr Nanoseconds kProfilingMax = std::chrono::hours(1);
/// Forgets what was counted and counts from now on, for at most `span` (itself at most kProfilingMax).
void start_profiling(Nanoseconds span);
void stop_profiling();
[[nodiscard]] ProfileReading read_profile();

}  // namespace ephfs::core
