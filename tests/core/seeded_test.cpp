// SPDX-License-Identifier: Apache-2.0
// The test support's own randomness: what a seed gives must not change, or old seeds would show nothing.
#include "tests/support/seeded.hpp"

#include <set>

#include <gtest/gtest.h>
#include <sodium.h>

namespace ephfs::testing {
namespace {

core::Bytes sodium_bytes(std::size_t size) {
  core::Bytes bytes(size);
  randombytes_buf(bytes.data(), bytes.size());
  return bytes;
}

TEST(RandomTest, ASeedGivesTheSameNumbers) {
  Random one(7);
  Random other(7);
  Random third(8);
  const std::uint64_t first = one();
  EXPECT_EQ(first, other());
  EXPECT_NE(first, third());
  EXPECT_EQ(one.bytes(37), other.bytes(37));
}

TEST(RandomTest, NumbersStayWithinTheirBounds) {
  Random random(1);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(random.between(5, 9));
  EXPECT_EQ(seen, (std::set<std::uint64_t>{5, 6, 7, 8, 9}));
  EXPECT_EQ(random.below(1), 0U);
}

TEST(SeededRandomnessTest, MakesLibsodiumRepeatableAndGivesItBack) {
  core::Bytes first;
  {
    const SeededRandomness seeded(5);
    first = sodium_bytes(50);
    EXPECT_NE(sodium_bytes(50), first);
  }
  {
    const SeededRandomness seeded(5);
    EXPECT_EQ(sodium_bytes(50), first);
  }
  EXPECT_STRNE(randombytes_implementation_name(), "seeded");
  EXPECT_NE(sodium_bytes(50), sodium_bytes(50));
}

}  // namespace
}  // namespace ephfs::testing
