// SPDX-License-Identifier: Apache-2.0
// Randomness that a test can repeat: one seed, from $EPHFS_SEED or fixed, shown with every failure.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>

#include "core/bytes.hpp"

namespace ephfs::testing {

/// $EPHFS_SEED when it is a number (decimal, or hexadecimal after 0x), otherwise a fixed one.
[[nodiscard]] std::uint64_t test_seed();
/// "EPHFS_SEED=N", how to run it again.
[[nodiscard]] std::string describe_seed(std::uint64_t seed);

/// xoshiro256** (Blackman and Vigna), seeded through splitmix64: the same numbers on every machine, for tests
/// only. A uniform random bit generator for the standard library. Thread-compatible.
class Random {
 public:
  using result_type = std::uint64_t;

  explicit Random(std::uint64_t seed = test_seed());

  [[nodiscard]] std::uint64_t seed() const { return seed_; }
  std::uint64_t operator()();
  /// 0 to bound - 1; `bound` is at least 1.
  std::uint64_t below(std::uint64_t bound);
  /// low to high, both included; not the whole range of the type.
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
  /// True once in `one_in` times.
  bool chance(std::uint64_t one_in) { return below(one_in) == 0; }
  void fill(core::MutableByteView out);
  [[nodiscard]] core::Bytes bytes(std::size_t size);

  static constexpr std::uint64_t min() { return 0; }
  static constexpr std::uint64_t max() { return std::numeric_limits<std::uint64_t>::max(); }

 private:
  std::uint64_t seed_;
  std::array<std::uint64_t, 4> state_;
};

/// While it lives, libsodium's random bytes come from a Random of `seed`: keys, ids and nonces of a
/// simulation are the same in every run. One at a time in a process; made and destroyed while no other thread
/// asks for random bytes.
class SeededRandomness {
 public:
  explicit SeededRandomness(std::uint64_t seed = test_seed());
  ~SeededRandomness();
  SeededRandomness(const SeededRandomness&) = delete;
  SeededRandomness& operator=(const SeededRandomness&) = delete;
};

}  // namespace ephfs::testing

/// Adds the seed to every failure in this scope.
#define EPHFS_TRACE_SEED(random) SCOPED_TRACE(::ephfs::testing::describe_seed((random).seed()))
