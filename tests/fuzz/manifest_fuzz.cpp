// SPDX-License-Identifier: Apache-2.0
// A manifest from anywhere.
#include "core/secret.hpp"
#include "meta/manifest.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace ephfs::fuzz {
namespace {

const core::Signer& signer() {
  static const core::Signer kSigner(core::SigningSeed::copy_of(core::Bytes(core::SigningSeed::kSize)));
  return kSigner;
}

meta::Manifest some_manifest() {
  meta::Manifest manifest;
  manifest.volume = core::random_id<core::VolumeId>();
  manifest.file = core::random_id<core::FileId>();
  manifest.size = 100'000;
  manifest.deadline = core::Deadline(core::Instant{1'800'000'000'000});
  meta::ManifestStripe stripe;
  stripe.id = core::random_id<core::StripeId>();
  stripe.profile = {2, 1};
  stripe.length = 65'600;
  stripe.shard_bytes = core::shard_bytes(stripe.length, stripe.profile);
  for (std::uint8_t index = 0; index < 3; ++index) {
    stripe.shards.push_back({index, core::random_id<core::ShardId>(), core::random_id<core::NodeId>()});
  }
  manifest.stripes.push_back(stripe);
  manifest.extents.push_back({4096, 65'536, 0, 0, 4096, 65'536});
  return manifest;
}

}  // namespace

std::vector<core::Bytes> samples() {
  auto signed_bytes = meta::sign_manifest(some_manifest(), signer());
  EPHFS_CHECK(signed_bytes.has_value(), "the sample is a manifest");
  return {std::move(*signed_bytes)};
}

void try_bytes(core::ByteView bytes) {
  const auto manifest = meta::open_manifest(bytes);
  if (!manifest) return;
  EPHFS_CHECK(manifest->owner == *core::OwnerId::from_bytes(signer().public_key().view()),
              "nobody else has signed anything");
  const auto again = meta::sign_manifest(*manifest, signer());
  EPHFS_CHECK(again.has_value(), "a manifest that was read can be written");
  const auto same = meta::open_manifest(*again);
  EPHFS_CHECK(same && *same == *manifest, "a manifest that was read is written as it is");
}

}  // namespace ephfs::fuzz
