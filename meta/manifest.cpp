// SPDX-License-Identifier: Apache-2.0
#include "meta/manifest.hpp"

#include <algorithm>
#include <limits>

#include "meta/manifest.pb.h"

namespace ephfs::meta {

using core::Error;
using core::fail;

namespace {

constexpr std::string_view kMagic = "EPHFSMAN";
constexpr std::string_view kContext = "ephfs manifest";
constexpr std::size_t kHeaderBytes = kMagic.size() + core::PublicKey::kSize + core::Signature::kSize;
constexpr auto kOffsetMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
constexpr std::uint64_t kStripeBytesMax = std::uint64_t{1} << 30;

bool lies_within(std::uint64_t offset, std::uint64_t length, std::uint64_t begin, std::uint64_t end) {
  return length > 0 && offset >= begin && offset <= end && length <= end - offset;
}

/// What is wrong with a stripe; null when nothing is.
const char* fault_of(const ManifestStripe& stripe) {
  const auto [k, m] = stripe.profile;
  if (k < 1 || k > core::kDataShardsMax || m > core::kParityShardsMax) return "a stripe's profile";
  if (!core::is_known(stripe.format)) return "a stripe's algorithm";
  if (stripe.length == 0 || stripe.length > kStripeBytesMax) return "a stripe's length";
  if (stripe.shard_bytes != core::shard_bytes(stripe.length, stripe.profile)) return "a stripe's shard length";
  if (stripe.shards.size() < k) return "fewer shards than a stripe needs";
  int last = -1;
  for (const ManifestShard& shard : stripe.shards) {
    if (shard.index <= last || shard.index >= stripe.profile.width()) return "a shard's index";
    last = shard.index;
  }
  return nullptr;
}

const char* fault_of(const Manifest& manifest) {
  if (manifest.size > kOffsetMax) return "the size";
  for (const ManifestStripe& stripe : manifest.stripes) {
    if (const char* fault = fault_of(stripe)) return fault;
  }
  std::uint64_t end = 0;
  for (const ManifestExtent& extent : manifest.extents) {
    if (!lies_within(extent.offset, extent.length, end, manifest.size)) return "an extent's place in the file";
    if (extent.stripe >= manifest.stripes.size()) return "an extent's stripe";
    if (!lies_within(extent.origin_offset, extent.origin_length, 0, kOffsetMax) ||
        !lies_within(extent.offset, extent.length, extent.origin_offset, extent.origin_offset + extent.origin_length)) {
      return "an extent's origin";
    }
    if (!lies_within(extent.stripe_offset, extent.origin_length, 0, manifest.stripes[extent.stripe].length)) {
      return "an extent's place in its stripe";
    }
    end = extent.offset + extent.length;
  }
  return nullptr;
}

pb::Manifest to_message(const Manifest& manifest, const core::PublicKey& owner) {
  pb::Manifest message;
  message.set_version(kManifestVersion);
  message.set_owner(owner.text());
  message.set_volume(manifest.volume.text());
  message.set_file(manifest.file.text());
  message.set_size(manifest.size);
  message.set_deadline_ms(manifest.deadline.raw());
  for (const ManifestExtent& extent : manifest.extents) {
    pb::ManifestExtent& out = *message.add_extents();
    out.set_offset(extent.offset);
    out.set_length(extent.length);
    out.set_stripe(extent.stripe);
    out.set_stripe_offset(extent.stripe_offset);
    out.set_origin_offset(extent.origin_offset);
    out.set_origin_length(extent.origin_length);
  }
  for (const ManifestStripe& stripe : manifest.stripes) {
    pb::ManifestStripe& out = *message.add_stripes();
    out.set_id(stripe.id.text());
    out.set_algorithm(static_cast<std::uint32_t>(stripe.format));
    out.set_k(stripe.profile.k);
    out.set_m(stripe.profile.m);
    out.set_length(stripe.length);
    out.set_shard_bytes(stripe.shard_bytes);
    for (const ManifestShard& shard : stripe.shards) {
      pb::ManifestShard& held = *out.add_shards();
      held.set_index(shard.index);
      held.set_id(shard.id.text());
      held.set_node(shard.node.text());
    }
  }
  return message;
}

template <class Id>
bool read_id(const std::string& text, Id& id) {
  const auto value = Id::from_bytes(core::as_bytes(text));
  if (value) id = *value;
  return value.has_value();
}

/// False for a number that would not fit, which must not be cut to one that does.
template <class Small>
bool read_small(std::uint32_t value, Small& out) {
  out = static_cast<Small>(value);
  return static_cast<std::uint32_t>(out) == value;
}

bool read_stripe(const pb::ManifestStripe& message, ManifestStripe& stripe) {
  bool sound = read_id(message.id(), stripe.id) && read_small(message.algorithm(), stripe.format) &&
               read_small(message.k(), stripe.profile.k) && read_small(message.m(), stripe.profile.m);
  stripe.length = message.length();
  stripe.shard_bytes = message.shard_bytes();
  for (const pb::ManifestShard& held : message.shards()) {
    ManifestShard& shard = stripe.shards.emplace_back();
    sound = sound && read_small(held.index(), shard.index) && read_id(held.id(), shard.id) &&
            read_id(held.node(), shard.node);
  }
  return sound;
}

bool read_manifest(const pb::Manifest& message, Manifest& manifest) {
  bool sound = read_id(message.owner(), manifest.owner) && read_id(message.volume(), manifest.volume) &&
               read_id(message.file(), manifest.file);
  manifest.size = message.size();
  manifest.deadline = Deadline::from_raw(message.deadline_ms());
  for (const pb::ManifestExtent& extent : message.extents()) {
    manifest.extents.push_back({extent.offset(), extent.length(), extent.stripe(), extent.stripe_offset(),
                                extent.origin_offset(), extent.origin_length()});
  }
  for (const pb::ManifestStripe& stripe : message.stripes()) {
    sound = sound && read_stripe(stripe, manifest.stripes.emplace_back());
  }
  return sound;
}

core::Failure damaged(const std::string& what) {
  return fail(Error::damaged, "manifest: " + what);
}

}  // namespace

Result<core::Bytes> sign_manifest(const Manifest& manifest, const core::Signer& owner) {
  if (const char* fault = fault_of(manifest)) return fail(Error::invalid_argument, std::string("manifest: ") + fault);
  const pb::Manifest message = to_message(manifest, owner.public_key());
  const std::size_t size = message.ByteSizeLong();
  if (size > kManifestBytesMax - kHeaderBytes) {
    return fail(Error::file_too_large, "manifest: " + std::to_string(size) + " bytes");
  }
  core::Bytes bytes(kHeaderBytes + size);
  const core::MutableByteView all(bytes);
  const auto statement = all.subspan(kHeaderBytes);
  const bool written = message.SerializeToArray(statement.data(), static_cast<int>(size));
  EPHFS_CHECK(written, "a message of known size fits");

  const core::Signature signature = owner.sign(kContext, statement);
  auto out = std::ranges::copy(core::as_bytes(kMagic), bytes.begin()).out;
  out = std::ranges::copy(owner.public_key().view(), out).out;
  std::ranges::copy(signature.view(), out);
  return bytes;
}

Result<Manifest> open_manifest(core::ByteView bytes) {
  if (bytes.size() > kManifestBytesMax) return damaged("longer than any");
  if (bytes.size() < kHeaderBytes || core::as_text(bytes.first(kMagic.size())) != kMagic) return damaged("not one");
  const auto signer = core::PublicKey::from_bytes(bytes.subspan(kMagic.size(), core::PublicKey::kSize));
  const auto signature =
      core::Signature::from_bytes(bytes.subspan(kMagic.size() + core::PublicKey::kSize, core::Signature::kSize));
  const core::ByteView statement = bytes.subspan(kHeaderBytes);
  if (!core::verify_signature(*signer, kContext, statement, *signature)) {
    return fail(Error::not_permitted, "manifest: the signature does not match");
  }

  pb::Manifest message;
  if (!message.ParseFromArray(statement.data(), static_cast<int>(statement.size()))) {
    return damaged("its statement does not parse");
  }
  // Version 1 is the same, from before there were blocks of 4 KiB.
  if (message.version() < 1 || message.version() > kManifestVersion) {
    return fail(Error::version, "manifest: version " + std::to_string(message.version()));
  }
  Manifest manifest;
  if (!read_manifest(message, manifest)) return damaged("a field of the wrong size");
  if (!std::ranges::equal(manifest.owner.view(), signer->view())) {
    return fail(Error::not_permitted, "manifest: signed by another than its owner");
  }
  if (const char* fault = fault_of(manifest)) return damaged(fault);
  return manifest;
}

core::Hash manifest_hash(core::ByteView bytes) {
  return *core::Hash::from_bytes(core::sha256(bytes).view());
}

}  // namespace ephfs::meta
