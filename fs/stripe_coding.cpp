// SPDX-License-Identifier: Apache-2.0
#include "fs/stripe_coding.hpp"

#include "core/profile.hpp"

namespace ephfs::fs {

std::vector<CodedShard> code_stripe(const core::SharedBytes& padded, core::Profile profile, BufferPool& pool) {
  const std::size_t length = padded.size() / profile.k;
  EPHFS_CHECK(length * profile.k == padded.size() && length % core::kShardAlignment == 0,
              "a stripe is padded to k shards");
  std::vector<CodedShard> shards;
  std::vector<core::ByteView> data;
  for (unsigned i = 0; i < profile.k; ++i) {
    shards.push_back({padded.slice(i * length, length), nullptr});
    data.push_back(shards.back().bytes.view());
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
  if (profile.m > 0) {
    static core::Probe coding("stage", "code");
    const core::ProbeScope scope(coding, padded.size());
    core::ErasureCode::of(profile)->encode(data, parity);
  }
  static core::Probe hashing("stage", "hash");
  const core::ProbeScope scope(hashing, length * profile.width());
  for (auto& shard : shards) {
    shard.tree = std::make_shared<const core::MerkleTree>(core::MerkleTree::of_data(shard.bytes.view()));
  }
  return shards;
}

}  // namespace ephfs::fs
