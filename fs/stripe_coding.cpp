// SPDX-License-Identifier: Apache-2.0
#include "fs/stripe_coding.hpp"

#include <algorithm>

#include "core/profile.hpp"

namespace ephfs::fs {

namespace {

/// A stripe is coded and hashed so much at a time, all its shards counted, that hashing finds it in the processor's
/// cache.
constexpr std::size_t kWorkingSetBytes = 768U << 10U;
/// Of one shard: as many leaves as are hashed at once.
constexpr std::size_t kWindowStep = 16 * core::kLeafBytes;

void encode_window(const core::ErasureCode& code, const std::vector<CodedShard>& shards,
                   std::span<const core::MutableByteView> parity, std::size_t at, std::size_t bytes) {
  static core::Probe coding("stage", "code");
  const std::size_t k = shards.size() - parity.size();
  const core::ProbeScope scope(coding, bytes * k);
  std::vector<core::ByteView> from;
  std::vector<core::MutableByteView> to;
  for (std::size_t i = 0; i < k; ++i) from.push_back(shards[i].bytes.view().subspan(at, bytes));
  for (const auto& one : parity) to.push_back(one.subspan(at, bytes));
  code.encode(from, to);
}

void hash_window(const std::vector<CodedShard>& shards, std::vector<std::vector<core::Hash>>& leaves, std::size_t at,
                 std::size_t bytes) {
  static core::Probe hashing("stage", "hash");
  const core::ProbeScope scope(hashing, bytes * shards.size());
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const auto hashes = core::hash_leaves(shards[i].bytes.view().subspan(at, bytes));
    leaves[i].insert(leaves[i].end(), hashes.begin(), hashes.end());
  }
}

}  // namespace

std::vector<CodedShard> code_stripe(const core::SharedBytes& padded, core::Profile profile, BufferPool& pool) {
  const std::size_t length = padded.size() / profile.k;
  EPHFS_CHECK(length * profile.k == padded.size() && length % core::kShardAlignment == 0,
              "a stripe is padded to k shards");
  std::vector<CodedShard> shards;
  for (unsigned i = 0; i < profile.k; ++i) {
    shards.push_back({padded.slice(i * length, length), nullptr});
  }
  std::vector<core::MutableByteView> parity;
  std::shared_ptr<core::Buffer> buffer;
  const std::size_t per_buffer = pool.buffer_bytes() / length;
  for (unsigned i = 0; i < profile.m; ++i) {
    if (i % per_buffer == 0) buffer = pool.take();
    const std::size_t at = i % per_buffer * length;
    parity.push_back(buffer->view().subspan(at, length));
    shards.push_back({shared_part(buffer, at, length), nullptr});
  }
  const std::size_t window = std::max(kWorkingSetBytes / profile.width() / kWindowStep, std::size_t{1}) * kWindowStep;
  const auto code = core::ErasureCode::of(profile);
  std::vector<std::vector<core::Hash>> leaves(shards.size());
  for (std::size_t at = 0; at < length; at += window) {
    const std::size_t bytes = std::min(window, length - at);
    if (profile.m > 0) encode_window(*code, shards, parity, at, bytes);
    hash_window(shards, leaves, at, bytes);
  }
  for (std::size_t i = 0; i < shards.size(); ++i) {
    shards[i].tree = std::make_shared<const core::MerkleTree>(std::move(leaves[i]));
  }
  return shards;
}

}  // namespace ephfs::fs
