// SPDX-License-Identifier: Apache-2.0
#include "fs/extent_codec.hpp"

#include <array>
#include <set>

#include "fs/ciphertext.hpp"
#include "fs/stripe_coding.hpp"
#include "fs/stripe_log.hpp"
#include "net/peer.hpp"
#include "tests/support/seeded.hpp"

namespace ephfs::fs {
namespace {

using ephfs::testing::Random;

constexpr auto kFormat = core::BlockFormat::aes_256_gcm_4k;
constexpr std::array kFormats{core::BlockFormat::aes_256_gcm_16k, core::BlockFormat::xchacha20_poly1305_16k,
                              core::BlockFormat::aes_256_gcm_4k, core::BlockFormat::xchacha20_poly1305_4k};

/// An extent encrypted in memory.
class SealedExtent {
 public:
  SealedExtent(Random& random, std::uint64_t length, core::BlockFormat format = core::preferred_block_format())
      : format_(format), plain(random.bytes(length)), sealed(sealed_length(length, core::block_bytes_of(format))) {
    extent.length = extent.origin_length = length;
    extent.offset = extent.origin_offset = random.below(1U << 30U);
    extent.stripe_offset = random.below(kStripeCapacity - sealed.size() + 1);
    codec().seal(extent.origin_offset, extent.stripe_offset, plain, sealed);
  }
  [[nodiscard]] ExtentCodec codec() const { return ExtentCodec(format_, {file, &key}, stripe); }

  /// Opens part of it, by its offset from the extent's start.
  [[nodiscard]] bool open(std::uint64_t from, std::uint64_t length, core::Bytes& out) const {
    const auto cut = cut_blocks(format_, extent, extent.offset + from, length);
    EXPECT_TRUE(cut) << cut.error();
    out.assign(length, std::byte{0});
    const auto part = core::ByteView(sealed).subspan(cut->stripe_offset - extent.stripe_offset, cut->sealed_bytes);
    return codec().open(extent, *cut, part, extent.offset + from, out);
  }

 private:
  core::BlockFormat format_;

 public:
  core::Key key = core::random_key();
  core::FileId file = core::random_id<core::FileId>();
  core::StripeId stripe = core::random_id<core::StripeId>();
  core::Bytes plain;
  core::Bytes sealed;
  meta::ExtentRecord extent;
};

TEST(ExtentCodecTest, ALengthFitsExactlyItsCapacity) {
  for (const std::uint64_t plain : {1U, 15U, 16U, 17U, 4095U, 4096U, 4097U, 32768U, 40000U, 4194304U}) {
    EXPECT_EQ(plain_capacity(sealed_length(plain)), plain);
    EXPECT_LT(plain_capacity(sealed_length(plain) - 1), plain);
  }
  EXPECT_EQ(plain_capacity(0), 0U);
  EXPECT_EQ(plain_capacity(kStripeCapacity), kStripeBytes);
}

TEST(ExtentCodecTest, AFullStripeFitsAShardUnderEveryProfile) {
  for (std::uint8_t k = 1; k <= core::kDataShardsMax; ++k) {
    meta::StripeRecord record;
    record.length = kStripeCapacity;
    record.profile = {k, 0};
    EXPECT_LE(padded_length(record), net::kShardBytesMax) << int{k};
  }
}

TEST(ExtentCodecTest, AnyPartOfAnExtentOpens) {
  Random random;
  EPHFS_TRACE_SEED(random);
  for (const auto format : kFormats) {
    for (int round = 0; round < 30; ++round) {
      const SealedExtent made(random, random.between(1, 100'000), format);
      for (int part = 0; part < 10; ++part) {
        const std::uint64_t from = random.below(made.plain.size());
        const std::uint64_t length = random.between(1, made.plain.size() - from);
        core::Bytes out;
        ASSERT_TRUE(made.open(from, length, out));
        ASSERT_TRUE(std::ranges::equal(out, core::ByteView(made.plain).subspan(from, length)));
      }
    }
  }
}

TEST(ExtentCodecTest, StripesOfEveryFormatAreReadWindowByWindow) {
  Random random;
  EPHFS_TRACE_SEED(random);
  core::BufferPool scratch(kWindowBytes, 1);
  for (const auto format : kFormats) {
    const SealedExtent made(random, 1'000'000, format);
    meta::StripeRecord record;
    record.id = made.stripe;
    record.format = format;
    record.length = kStripeCapacity;
    const CiphertextSource source = [&made](std::uint64_t at, core::MutableByteView room) -> Result<core::ByteView> {
      return core::ByteView(made.sealed).subspan(at - made.extent.stripe_offset, room.size());
    };
    core::Bytes out(900'000);
    const WantedSlice wanted{made.extent, {made.file, &made.key}, made.extent.offset + 12'345, out};
    ASSERT_TRUE(open_slice(record, wanted, source, scratch));
    EXPECT_TRUE(std::ranges::equal(out, core::ByteView(made.plain).subspan(12'345, out.size())));
  }
}

TEST(ExtentCodecTest, AnyFlippedByteIsRefused) {
  Random random;
  EPHFS_TRACE_SEED(random);
  SealedExtent made(random, 2 * kBlockBytes + 100);
  core::Bytes out;
  for (std::size_t at = 0; at < made.sealed.size(); at += random.between(1, 97)) {
    made.sealed[at] ^= std::byte{0x10};
    EXPECT_FALSE(made.open(0, made.plain.size(), out)) << at;
    made.sealed[at] ^= std::byte{0x10};
  }
  EXPECT_TRUE(made.open(0, made.plain.size(), out));
}

TEST(ExtentCodecTest, ABlockIsNotTakenForAnother) {
  Random random;
  EPHFS_TRACE_SEED(random);
  core::Bytes out;
  SealedExtent moved(random, kBlockBytes);
  ++moved.extent.origin_offset;
  moved.extent.offset = moved.extent.origin_offset;
  EXPECT_FALSE(moved.open(0, kBlockBytes, out)) << "at another place in the file";
  SealedExtent other_place(random, kBlockBytes);
  other_place.extent.stripe_offset = other_place.extent.stripe_offset == 0 ? 1 : other_place.extent.stripe_offset - 1;
  EXPECT_FALSE(other_place.open(0, kBlockBytes, out)) << "at another place in the stripe";
  SealedExtent other_file(random, kBlockBytes);
  other_file.file = core::random_id<core::FileId>();
  EXPECT_FALSE(other_file.open(0, kBlockBytes, out)) << "of another file";
  SealedExtent other_stripe(random, kBlockBytes);
  other_stripe.stripe = core::random_id<core::StripeId>();
  EXPECT_FALSE(other_stripe.open(0, kBlockBytes, out)) << "of another stripe";
  SealedExtent other_key(random, kBlockBytes);
  other_key.key = core::random_key();
  EXPECT_FALSE(other_key.open(0, kBlockBytes, out)) << "under another key";
}

TEST(ExtentCodecTest, NoTwoBlocksOfAStripeShareANonce) {
  Random random;
  EPHFS_TRACE_SEED(random);
  // Extents follow one another as the log appends them; a block's nonce is where its ciphertext begins.
  std::set<std::uint64_t> nonces;
  for (std::uint64_t at = 0; at + kSealedBlockBytes < kStripeCapacity;) {
    const std::uint64_t length =
        random.between(1, plain_capacity(std::min<std::uint64_t>(kStripeCapacity - at, 70'000)));
    meta::ExtentRecord extent;
    extent.length = extent.origin_length = length;
    extent.stripe_offset = at;
    const auto cut = cut_blocks(kFormat, extent, 0, length);
    ASSERT_TRUE(cut);
    for (std::uint64_t i = 0; i < cut->count; ++i) {
      ASSERT_TRUE(nonces.insert(cut->stripe_offset + i * kSealedBlockBytes).second);
    }
    at += sealed_length(length);
  }
}

TEST(ExtentCodecTest, ExtentsThatCannotBeAreDamaged) {
  meta::ExtentRecord good;
  good.offset = good.origin_offset = 4096;
  good.length = good.origin_length = 1000;
  ASSERT_TRUE(cut_blocks(kFormat, good, 4096, 1000));
  const auto broken = [&](auto change) {
    meta::ExtentRecord extent = good;
    change(extent);
    const auto cut = cut_blocks(kFormat, extent, extent.offset, 1);
    return !cut && cut.error().code == core::Error::damaged;
  };
  EXPECT_TRUE(broken([](auto& extent) { extent.origin_length = 0; }));
  EXPECT_TRUE(broken([](auto& extent) { extent.origin_length = kStripeBytes + 1; }));
  EXPECT_TRUE(broken([](auto& extent) { extent.stripe_offset = kStripeCapacity; }));
  EXPECT_TRUE(broken([](auto& extent) { extent.stripe_offset = ~std::uint64_t{0}; }));
  EXPECT_TRUE(broken([](auto& extent) { extent.offset = 4095; }));
  EXPECT_TRUE(broken([](auto& extent) { extent.length = 1001; }));
  EXPECT_TRUE(broken([](auto& extent) { extent.offset = ~std::uint64_t{0}; }));
  for (const auto& [offset, length] :
       {std::pair<std::uint64_t, std::uint64_t>{4095, 10}, {4096, 1001}, {5095, 2}, {4096, 0}}) {
    const auto cut = cut_blocks(kFormat, good, offset, length);
    ASSERT_FALSE(cut);
    EXPECT_EQ(cut.error().code, core::Error::invalid_argument);
  }
}

TEST(DeadlineBucketTest, HoldsItsDeadlineAndIsNarrow) {
  Random random;
  EPHFS_TRACE_SEED(random);
  for (int round = 0; round < 2000; ++round) {
    const Milliseconds ttl(random.below(std::uint64_t{1} << random.between(1, 45)));
    const std::int64_t ms = static_cast<std::int64_t>(random.below(4'000'000'000'000));
    const Deadline deadline(core::Instant{ms});
    const DeadlineBucket bucket = bucket_of(deadline, ttl);
    ASSERT_GE(bucket.end, deadline);
    ASSERT_LT(bucket.end.instant() - deadline.instant(), bucket.width);
    ASSERT_LE(bucket.width, std::chrono::hours(1));
    ASSERT_GE(bucket.width.count(), 1);
    ASSERT_LE(bucket.width.count(), std::max<std::int64_t>(ttl.count() / 64, 1));
    ASSERT_EQ(bucket.width.count() & (bucket.width.count() - 1), 0);
    // Every deadline of the bucket has the same one.
    const Deadline first(bucket.end.instant() - bucket.width + Milliseconds(1));
    ASSERT_EQ(bucket_of(first, ttl).end, bucket.end);
    ASSERT_EQ(bucket_of(bucket.end, ttl).end, bucket.end);
  }
}

TEST(DeadlineBucketTest, NeverIsItsOwn) {
  EXPECT_TRUE(bucket_of(Deadline::never(), std::chrono::hours(24)).end.is_never());
  const Deadline last = Deadline::from_raw(Deadline::never().raw() - 1);
  EXPECT_EQ(bucket_of(last, std::chrono::hours(24)).end, last);
}

}  // namespace
}  // namespace ephfs::fs
