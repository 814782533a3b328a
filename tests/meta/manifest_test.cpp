// SPDX-License-Identifier: Apache-2.0
#include "meta/manifest.hpp"

#include "core/secret.hpp"
#include "tests/meta/model_catalog.hpp"
#include "tests/meta/records.hpp"

namespace ephfs::meta::testing {
namespace {

using core::Error;

core::Signer signer_of(unsigned seed) {
  return core::Signer(core::SigningSeed::copy_of(id_of<core::ShardId>(seed).view()));
}

Manifest small_manifest() {
  Manifest manifest;
  manifest.owner = *core::OwnerId::from_bytes(signer_of(1).public_key().view());
  manifest.volume = id_of<core::VolumeId>(2);
  manifest.file = id_of<core::FileId>(3);
  manifest.size = 400;
  manifest.deadline = at(1234567);
  manifest.stripes.push_back(
      {id_of<core::StripeId>(4),
       core::BlockFormat::aes_256_gcm_4k,
       {2, 1},
       300,
       core::shard_bytes(300, {2, 1}),
       {{0, id_of<core::ShardId>(5), id_of<core::NodeId>(6)}, {2, id_of<core::ShardId>(7), id_of<core::NodeId>(8)}}});
  manifest.stripes.push_back({id_of<core::StripeId>(9),
                              core::BlockFormat::xchacha20_poly1305_16k,
                              {1, 0},
                              100,
                              core::shard_bytes(100, {1, 0}),
                              {{0, id_of<core::ShardId>(10), id_of<core::NodeId>(11)}}});
  manifest.extents = {{0, 200, 0, 16, 0, 200}, {250, 50, 1, 0, 240, 80}};
  return manifest;
}

TEST(Manifest, ComesBackAsItWasSigned) {
  const Manifest manifest = small_manifest();
  const auto bytes = sign_manifest(manifest, signer_of(1)).value();
  EXPECT_EQ(open_manifest(bytes).value(), manifest);
  EXPECT_EQ(sign_manifest(manifest, signer_of(1)).value(), bytes);
  EXPECT_TRUE(std::ranges::equal(manifest_hash(bytes).view(), core::sha256(bytes).view()));
}

TEST(Manifest, AnEmptyFileThatNeverDiesHasOneToo) {
  Manifest manifest;
  const auto opened = open_manifest(sign_manifest(manifest, signer_of(1)).value()).value();
  EXPECT_TRUE(opened.deadline.is_never());
  EXPECT_EQ(opened.owner, small_manifest().owner);
}

TEST(Manifest, EveryFlippedBitAndEveryCutIsRefused) {
  const auto bytes = sign_manifest(small_manifest(), signer_of(1)).value();
  for (std::size_t index = 0; index < bytes.size(); ++index) {
    for (const unsigned bit : {0x01U, 0x80U}) {
      core::Bytes flipped = bytes;
      flipped[index] ^= static_cast<std::byte>(bit);
      const auto opened = open_manifest(flipped);
      ASSERT_FALSE(opened) << "byte " << index;
      EXPECT_THAT(opened.error().code, ::testing::AnyOf(Error::damaged, Error::not_permitted)) << "byte " << index;
    }
    EXPECT_FALSE(open_manifest(core::ByteView(bytes).first(index))) << "cut at " << index;
  }
  core::Bytes longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(open_manifest(longer));
}

TEST(Manifest, OfAnotherVersionIsRefusedAsSuch) {
  // A statement that holds only field 1, version = 3.
  const core::Bytes statement{std::byte{8}, std::byte{3}};
  const core::Signer owner = signer_of(1);
  core::Bytes bytes = core::to_bytes(core::as_bytes("EPHFSMAN"));
  const auto append = [&bytes](core::ByteView more) { bytes.insert(bytes.end(), more.begin(), more.end()); };
  append(owner.public_key().view());
  append(owner.sign("ephfs manifest", statement).view());
  append(statement);
  EXPECT_EQ(open_manifest(bytes).error().code, Error::version);
}

TEST(Manifest, WhatMakesNoSenseIsNotSigned) {
  const std::vector<std::function<void(Manifest&)>> faults{
      [](Manifest& m) { m.size = ~0ULL; },
      [](Manifest& m) { m.size = 299; },
      [](Manifest& m) { m.extents[1].offset = 199; },
      [](Manifest& m) { m.extents[1].length = 0; },
      [](Manifest& m) { m.extents[1].length = ~0ULL; },
      [](Manifest& m) { m.extents[1].stripe = 2; },
      [](Manifest& m) { m.extents[1].origin_offset = 251; },
      [](Manifest& m) { m.extents[1].origin_length = 59; },
      [](Manifest& m) { m.extents[1].stripe_offset = 21; },
      [](Manifest& m) { m.stripes[0].profile.k = 0; },
      [](Manifest& m) { m.stripes[0].profile.k = 17; },
      [](Manifest& m) { m.stripes[0].profile.m = 5; },
      [](Manifest& m) { m.stripes[0].format = static_cast<core::BlockFormat>(5); },
      [](Manifest& m) { m.stripes[0].length = 0; },
      [](Manifest& m) { m.stripes[0].shard_bytes += 64; },
      [](Manifest& m) { m.stripes[0].shards.pop_back(); },
      [](Manifest& m) { m.stripes[0].shards[1].index = 0; },
      [](Manifest& m) { m.stripes[0].shards[1].index = 3; },
  };
  for (std::size_t index = 0; index < faults.size(); ++index) {
    Manifest manifest = small_manifest();
    faults[index](manifest);
    const auto bytes = sign_manifest(manifest, signer_of(1));
    ASSERT_FALSE(bytes) << "fault " << index;
    EXPECT_EQ(bytes.error().code, Error::invalid_argument);
  }
}

class BuildManifest : public ::testing::Test {
 protected:
  BuildManifest() {
    ExtentRecord slice = extent(2, 500, 300, 7, 64);
    slice.origin_length = 400;
    put({PutInode{directory(1)}, PutInode{regular(2, 600, at(99))}, PutStripe{stripe(7)}, PutStripe{stripe(8)},
         PutExtent{slice}, PutExtent{extent(2, 0, 100, 8)}, PutExtent{extent(2, 100, 10, 7, 1000)},
         PutPlacement{placement(7, 0)}, PutPlacement{placement(7, 1)}, PutPlacement{placement(7, 2, false)},
         PutPlacement{placement(8, 0)}, PutPlacement{placement(8, 1)}});
  }
  void put(const Changes& changes) { EXPECT_TRUE(catalog_.commit(changes)); }

  ModelCatalog catalog_;
  const core::VolumeId volume_ = id_of<core::VolumeId>(44);
};

TEST_F(BuildManifest, SaysWhatTheCatalogKnows) {
  const auto manifest = build_manifest(catalog_, {2}, volume_).value();
  EXPECT_EQ(manifest.volume, volume_);
  EXPECT_EQ(manifest.file, id_of<core::FileId>(2));
  EXPECT_EQ(manifest.size, 600U);
  EXPECT_EQ(manifest.deadline, at(99));
  ASSERT_EQ(manifest.stripes.size(), 2U);
  EXPECT_EQ(manifest.stripes[0].id, stripe(8).id);
  EXPECT_EQ(manifest.stripes[1].id, stripe(7).id);
  EXPECT_EQ(manifest.stripes[1].shards.size(), 3U);
  EXPECT_EQ(manifest.stripes[1].shards[2].node, placement(7, 2).node);
  // The last extent reaches past the end of the file.
  EXPECT_THAT(manifest.extents,
              ::testing::ElementsAre(ManifestExtent{0, 100, 0, 0, 0, 100}, ManifestExtent{100, 10, 1, 1000, 100, 10},
                                     ManifestExtent{500, 100, 1, 64, 500, 400}));
  EXPECT_TRUE(sign_manifest(manifest, signer_of(1)));
}

TEST_F(BuildManifest, NeedsAPlacedRegularFile) {
  EXPECT_EQ(build_manifest(catalog_, {9}, volume_).error().code, Error::not_found);
  EXPECT_EQ(build_manifest(catalog_, {1}, volume_).error().code, Error::invalid_argument);
  put({PutStripe{stripe(8, StripeState::sealed)}});
  EXPECT_EQ(build_manifest(catalog_, {2}, volume_).error().code, Error::busy);
}

}  // namespace
}  // namespace ephfs::meta::testing
