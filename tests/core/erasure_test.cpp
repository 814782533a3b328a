// SPDX-License-Identifier: Apache-2.0
#include "core/erasure.hpp"

#include <cstdlib>
#include <optional>
#include <thread>

#include <gtest/gtest.h>
extern "C" {
#include <jerasure.h>
#include <reed_sol.h>
}

#include "tests/support/seeded.hpp"

namespace ephfs::core {
// How GoogleTest names a profile in a test's name.
void PrintTo(const Profile& profile, std::ostream* out) {
  *out << format_profile(profile);
}
}  // namespace ephfs::core

namespace ephfs::core::testing {
namespace {

using ephfs::testing::Random;

std::vector<Profile> all_profiles() {
  std::vector<Profile> profiles;
  for (std::uint8_t k = 1; k <= kDataShardsMax; ++k) {
    for (std::uint8_t m = 0; m <= kParityShardsMax; ++m) profiles.push_back({k, m});
  }
  return profiles;
}

// A coded stripe: shards[0, k) are data.
struct Stripe {
  Stripe(Profile of, std::size_t size, Random& random) : profile(of) {
    for (unsigned i = 0; i < of.width(); ++i) {
      shards.emplace_back(size);
      random.fill(shards.back().view());
    }
    std::vector<ByteView> data;
    std::vector<MutableByteView> parity;
    for (unsigned i = 0; i < of.width(); ++i) {
      if (i < of.k) {
        data.push_back(std::as_const(shards[i]).view());
      } else {
        parity.push_back(shards[i].view());
      }
    }
    ErasureCode::of(of)->encode(data, parity);
  }

  // Restores `wanted` from the shards in `present`, bytes [begin, end), and says whether all came back as
  // they were.
  [[nodiscard]] bool restores(const std::vector<unsigned>& present, const std::vector<unsigned>& wanted,
                              std::size_t begin, std::size_t end) const {
    std::vector<ErasureCode::Piece> pieces;
    for (const unsigned index : present) pieces.push_back({index, shards[index].view().subspan(begin, end - begin)});
    std::vector<Bytes> places(wanted.size(), Bytes(end - begin));
    const std::vector<MutableByteView> out(places.begin(), places.end());
    const auto restored = ErasureCode::of(profile)->restore(pieces, wanted, out);
    EXPECT_TRUE(restored) << restored.error();
    bool same = restored.has_value();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const ByteView original = shards[wanted[i]].view().subspan(begin, end - begin);
      same = same && std::equal(original.begin(), original.end(), places[i].begin());
    }
    return same;
  }

  Profile profile;
  std::vector<Buffer> shards;
};

std::vector<unsigned> indexes_below(unsigned end) {
  std::vector<unsigned> all(end);
  for (unsigned i = 0; i < end; ++i) all[i] = i;
  return all;
}

// `count` of the numbers below `end`, in random order.
std::vector<unsigned> choose(unsigned count, unsigned end, Random& random) {
  std::vector<unsigned> all = indexes_below(end);
  for (unsigned i = 0; i < count; ++i) std::swap(all[i], all[i + random.below(end - i)]);
  all.resize(count);
  return all;
}

class EveryProfile : public ::testing::TestWithParam<Profile> {};
INSTANTIATE_TEST_SUITE_P(Erasure, EveryProfile, ::testing::ValuesIn(all_profiles()), [](const auto& instance) {
  return "K" + std::to_string(unsigned{instance.param.k}) + "M" + std::to_string(unsigned{instance.param.m});
});

TEST_P(EveryProfile, GivesTheParityThatJerasureGives) {
  const Profile profile = GetParam();
  Random random;
  EPHFS_TRACE_SEED(random);
  constexpr std::size_t kSize = 4096 + kShardAlignment;
  Stripe stripe(profile, kSize, random);
  if (profile.m == 0) return;

  int* matrix = reed_sol_vandermonde_coding_matrix(profile.k, profile.m, 8);
  std::vector<char*> data;
  std::vector<std::vector<char>> parity(profile.m, std::vector<char>(kSize));
  std::vector<char*> coding;
  for (unsigned i = 0; i < profile.k; ++i) data.push_back(reinterpret_cast<char*>(stripe.shards[i].data()));
  for (auto& shard : parity) coding.push_back(shard.data());
  jerasure_matrix_encode(profile.k, profile.m, 8, matrix, data.data(), coding.data(), kSize);
  for (unsigned row = 0; row < profile.m; ++row) {
    const auto coefficients = ErasureCode::of(profile)->parity_row(row);
    EXPECT_TRUE(std::equal(coefficients.begin(), coefficients.end(), matrix + row * profile.k));
    EXPECT_EQ(std::memcmp(stripe.shards[profile.k + row].data(), parity[row].data(), kSize), 0) << "row " << row;
  }
  std::free(matrix);
}

TEST_P(EveryProfile, GetsTheDataBackFromAnyKShards) {
  const Profile profile = GetParam();
  Random random;
  EPHFS_TRACE_SEED(random);
  const Stripe stripe(profile, 512, random);
  for (int round = 0; round < 40; ++round) {
    const auto present = choose(profile.k, profile.width(), random);
    const auto wanted = choose(static_cast<unsigned>(random.between(1, profile.k)), profile.k, random);
    const std::size_t begin = random.below(512);
    const std::size_t end = random.between(begin, 512);
    ASSERT_TRUE(stripe.restores(present, wanted, begin, end)) << "round " << round;
  }
}

class SmallProfile : public ::testing::TestWithParam<Profile> {};
INSTANTIATE_TEST_SUITE_P(Erasure, SmallProfile,
                         ::testing::Values(Profile{2, 1}, Profile{3, 2}, Profile{4, 2}, Profile{1, 1}),
                         [](const auto& instance) {
                           return "K" + std::to_string(unsigned{instance.param.k}) + "M" +
                                  std::to_string(unsigned{instance.param.m});
                         });

TEST_P(SmallProfile, SurvivesEveryPatternOfLoss) {
  const Profile profile = GetParam();
  Random random;
  EPHFS_TRACE_SEED(random);
  const Stripe stripe(profile, 192, random);
  unsigned patterns = 0;
  for (unsigned mask = 0; mask < 1U << profile.width(); ++mask) {
    std::vector<unsigned> present;
    for (unsigned i = 0; i < profile.width(); ++i) {
      if ((mask >> i & 1U) != 0) present.push_back(i);
    }
    if (present.size() != profile.k) continue;
    ++patterns;
    ASSERT_TRUE(stripe.restores(present, indexes_below(profile.k), 0, 192)) << "mask " << mask;
    for (unsigned wanted = 0; wanted < profile.k; ++wanted) {
      ASSERT_TRUE(stripe.restores(present, {wanted}, 1, 190)) << "mask " << mask << " wanted " << wanted;
    }
  }
  EXPECT_GT(patterns, 1U);
}

TEST(Erasure, RangesOfEveryLengthComeBack) {
  Random random;
  EPHFS_TRACE_SEED(random);
  const Stripe stripe({4, 2}, 320, random);
  for (std::size_t size = 0; size <= 300; ++size) {
    ASSERT_TRUE(stripe.restores({5, 2, 4, 1}, {3, 0}, 7, 7 + size)) << size;
  }
}

TEST(Erasure, MorePatternsThanAreKeptAreAsRight) {
  Random random;
  EPHFS_TRACE_SEED(random);
  const Stripe stripe({16, 4}, 64, random);
  for (int round = 0; round < 1500; ++round) {
    ASSERT_TRUE(stripe.restores(choose(16, 20, random), indexes_below(16), 0, 64)) << round;
  }
}

TEST(Erasure, ThreadsMayShareACode) {
  const std::uint64_t seed = ephfs::testing::test_seed();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (unsigned i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      Random random(seed + i);
      const Stripe stripe({10, 4}, 128, random);
      for (int round = 0; round < 300; ++round) {
        if (!stripe.restores(choose(10, 14, random), indexes_below(10), 0, 128)) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0) << ephfs::testing::describe_seed(seed);
  EXPECT_EQ(ErasureCode::of({10, 4}), ErasureCode::of({10, 4}));
}

TEST(Erasure, RefusesPiecesThatCannotBe) {
  const auto code = ErasureCode::of({2, 2});
  Bytes bytes(64);
  Bytes place(64);
  const ByteView whole(bytes);
  struct Case {
    const char* name;
    std::vector<ErasureCode::Piece> pieces;
    std::vector<unsigned> wanted;
    std::vector<MutableByteView> out;
  };
  const std::vector<Case> cases{
      {"too few", {{0, whole}}, {0}, {place}},
      {"too many", {{0, whole}, {1, whole}, {2, whole}}, {0}, {place}},
      {"twice the same", {{2, whole}, {2, whole}}, {0}, {place}},
      {"no such shard", {{0, whole}, {4, whole}}, {1}, {place}},
      {"an index beyond bounds", {{0, whole}, {4'000'000'000U, whole}}, {1}, {place}},
      {"lengths differ", {{0, whole}, {2, whole.first(63)}}, {1}, {place}},
      {"parity is not restored", {{0, whole}, {2, whole}}, {2}, {place}},
      {"wanted twice", {{0, whole}, {2, whole}}, {1, 1}, {place, place}},
      {"no place", {{0, whole}, {2, whole}}, {1}, {}},
      {"a short place", {{0, whole}, {2, whole}}, {1}, {MutableByteView(place).first(32)}},
  };
  for (const Case& bad : cases) {
    const auto restored = code->restore(bad.pieces, bad.wanted, bad.out);
    ASSERT_FALSE(restored) << bad.name;
    EXPECT_EQ(restored.error().code, Error::invalid_argument) << bad.name;
  }
  EXPECT_TRUE(code->restore(std::vector<ErasureCode::Piece>{{0, whole}, {3, whole}}, {}, {}));
}

TEST(ProfileText, IsReadAndWritten) {
  for (const Profile profile : all_profiles()) EXPECT_EQ(*parse_profile(format_profile(profile)), profile);
  for (const char* bad : {"", "+", "4", "4+", "+2", "4-2", "0+1", "17+1", "4+5", "4+2 ", " 4+2", "4 +2", "-4+2", "4+-2",
                          "4+2+1", "260+2", "4+258", "auto", "99999999999+1"}) {
    const auto profile = parse_profile(bad);
    ASSERT_FALSE(profile) << bad;
    EXPECT_EQ(profile.error().code, Error::invalid_argument);
  }
}

TEST(ProfileText, AutoFollowsTheNumberOfNodes) {
  const char* expected[] = {"1+0", "1+1", "2+1", "2+2", "3+2", "4+2", "4+2"};
  for (std::size_t nodes = 1; nodes <= std::size(expected); ++nodes) {
    EXPECT_EQ(format_profile(auto_profile(nodes)), expected[nodes - 1]) << nodes;
  }
  EXPECT_EQ(format_profile(auto_profile(13)), "4+2");
  EXPECT_EQ(format_profile(auto_profile(14)), "10+4");
  EXPECT_EQ(format_profile(auto_profile(100'000)), "10+4");
  for (std::size_t nodes = 1; nodes < 30; ++nodes) EXPECT_LE(auto_profile(nodes).width(), nodes);
}

TEST(ShardBytes, HoldTheStripeAndAreAligned) {
  EXPECT_EQ(shard_bytes(0, {4, 2}), kShardAlignment);
  EXPECT_EQ(shard_bytes(1, {4, 2}), kShardAlignment);
  EXPECT_EQ(shard_bytes(4 << 20, {4, 2}), std::size_t{1} << 20);
  EXPECT_EQ(shard_bytes((4 << 20) + 1, {4, 2}), (std::size_t{1} << 20) + kShardAlignment);
  Random random;
  EPHFS_TRACE_SEED(random);
  for (int i = 0; i < 1000; ++i) {
    const Profile profile{static_cast<std::uint8_t>(random.between(1, 16)), 2};
    const std::size_t stripe = random.below(5 << 20);
    const std::size_t shard = shard_bytes(stripe, profile);
    EXPECT_EQ(shard % kShardAlignment, 0U);
    EXPECT_GE(shard * profile.k, stripe);
    EXPECT_LT(shard, stripe / profile.k + 1 + kShardAlignment);
  }
}

}  // namespace
}  // namespace ephfs::core::testing
