// SPDX-License-Identifier: Apache-2.0
#include "core/profile.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <mutex>

namespace ephfs::core {

namespace detail {

std::atomic<std::int64_t> profile_until_ns{0};

std::int64_t steady_ns() {
  return std::chrono::duration_cast<Nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace detail

namespace {

constexpr unsigned kBucketsPerDoubling = 4;

std::atomic<Probe*> all_probes{nullptr};
std::mutex profile_mutex;  // guards the two below
std::int64_t profile_began_ns = 0;
std::int64_t profile_ended_ns = 0;  // 0: still running, as far as is known

/// Below 4 ns a bucket is a nanosecond; from there on the two bits behind the highest tell four apart.
std::size_t bucket_of(std::uint64_t ns) {
  if (ns < kBucketsPerDoubling) return static_cast<std::size_t>(ns);
  const std::size_t highest = static_cast<std::size_t>(std::bit_width(ns)) - 1;
  return (highest - 1) * kBucketsPerDoubling + ((ns >> (highest - 2)) & 3U);
}

}  // namespace

Nanoseconds bucket_end(std::size_t bucket) {
  if (bucket < kBucketsPerDoubling) return Nanoseconds{static_cast<std::int64_t>(bucket)};
  const std::size_t highest = bucket / kBucketsPerDoubling + 1;
  const std::uint64_t step = std::uint64_t{1} << (highest - 2);
  const std::uint64_t begin = (kBucketsPerDoubling + bucket % kBucketsPerDoubling) * step;
  return Nanoseconds{static_cast<std::int64_t>(begin + (step - 1))};
}

Probe::Probe(std::string_view group, std::string_view name) : group_(group), name_(name) {
  next_ = all_probes.load();
  while (!all_probes.compare_exchange_weak(next_, this)) {
  }
}

void Probe::record(std::int64_t took_ns, std::uint64_t bytes) noexcept {
  const auto took = static_cast<std::uint64_t>(std::max<std::int64_t>(took_ns, 0));
  count_.fetch_add(1, std::memory_order_relaxed);
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  total_ns_.fetch_add(took, std::memory_order_relaxed);
  buckets_[std::min(bucket_of(took), kBuckets - 1)].fetch_add(1, std::memory_order_relaxed);
  std::uint64_t longest = longest_ns_.load(std::memory_order_relaxed);
  while (longest < took && !longest_ns_.compare_exchange_weak(longest, took, std::memory_order_relaxed)) {
  }
  // Whoever forgets to stop does not leave it on.
  const std::int64_t until = detail::profile_until_ns.load(std::memory_order_relaxed);
  if (until != 0 && detail::steady_ns() >= until) stop_profiling();
}

struct ProbeReader {
  static void clear(Probe& probe) {
    probe.count_ = 0;
    probe.bytes_ = 0;
    probe.total_ns_ = 0;
    probe.longest_ns_ = 0;
    for (auto& bucket : probe.buckets_) bucket = 0;
  }
  static ProbeReading read(const Probe& probe) {
    ProbeReading reading;
    reading.group = probe.group_;
    reading.name = probe.name_;
    reading.bytes = probe.bytes_;
    reading.total = Nanoseconds{static_cast<std::int64_t>(probe.total_ns_.load())};
    reading.longest = Nanoseconds{static_cast<std::int64_t>(probe.longest_ns_.load())};
    for (std::size_t i = 0; i < Probe::kBuckets; ++i) {
      reading.buckets[i] = probe.buckets_[i];
      reading.count += reading.buckets[i];
    }
    return reading;
  }
  static Probe* next(const Probe& probe) { return probe.next_; }
};

Nanoseconds ProbeReading::quantile(double share) const {
  if (count == 0) return Nanoseconds{0};
  const auto rank = static_cast<std::uint64_t>(share * static_cast<double>(count));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    seen += buckets[i];
    if (seen > rank || seen == count) return std::min(bucket_end(i), longest);
  }
  return longest;
}

void start_profiling(Nanoseconds span) {
  const std::lock_guard lock(profile_mutex);
  for (Probe* probe = all_probes; probe != nullptr; probe = ProbeReader::next(*probe)) ProbeReader::clear(*probe);
  profile_began_ns = detail::steady_ns();
  profile_ended_ns = 0;
  detail::profile_until_ns = profile_began_ns + std::clamp(span, Nanoseconds{1}, kProfilingMax).count();
}

void stop_profiling() {
  const std::lock_guard lock(profile_mutex);
  const std::int64_t until = detail::profile_until_ns.exchange(0);
  if (until != 0) profile_ended_ns = std::min(detail::steady_ns(), until);
}

ProfileReading read_profile() {
  ProfileReading profile;
  {
    const std::lock_guard lock(profile_mutex);
    const std::int64_t until = detail::profile_until_ns;
    const std::int64_t now = detail::steady_ns();
    profile.running = until != 0 && now < until;
    const std::int64_t end = until != 0 ? std::min(now, until) : profile_ended_ns;
    if (profile_began_ns != 0) profile.lasted = Nanoseconds{end - profile_began_ns};
  }
  for (const Probe* probe = all_probes; probe != nullptr; probe = ProbeReader::next(*probe)) {
    auto reading = ProbeReader::read(*probe);
    if (reading.count > 0) profile.probes.push_back(reading);
  }
  std::ranges::sort(profile.probes, {}, [](const ProbeReading& one) { return std::pair(one.group, one.name); });
  return profile;
}

}  // namespace ephfs::core
