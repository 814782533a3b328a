// SPDX-License-Identifier: Apache-2.0
// What the tests of this room share: names, and where a file store keeps a shard's files.
#pragma once

#include <fstream>

#include "node/file_shard_store.hpp"
#include "tests/support/memory_receipt_store.hpp"
#include "tests/support/memory_shard_store.hpp"
#include "tests/support/sample_shard.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::node::testing {

using ephfs::testing::kSampleCapacity;
using ephfs::testing::make_held;
using ephfs::testing::make_lease;
using ephfs::testing::make_shard;
using ephfs::testing::make_signer;
using ephfs::testing::MemoryReceiptStore;
using ephfs::testing::MemoryShardStore;
using ephfs::testing::owner_id_of;
using ephfs::testing::Random;
using ephfs::testing::SampleShard;
using ephfs::testing::TempDir;

constexpr core::Instant kStart{1'800'000'000'000};

inline std::filesystem::path shard_file(const std::filesystem::path& directory, const core::ShardId& shard) {
  const std::string hex = shard.hex();
  return directory / "shards" / hex.substr(0, 2) / (hex + ".shard");
}

inline std::filesystem::path lease_file(const std::filesystem::path& directory, const core::ShardId& shard) {
  return shard_file(directory, shard).replace_extension(".lease");
}

inline void flip_byte_in_file(const std::filesystem::path& path, std::uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const int value = file.get();
  ASSERT_NE(value, std::fstream::traits_type::eof()) << path << " has no byte " << offset;
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(static_cast<char>(value ^ 0xff));
}

/// Every regular file below `directory`/shards.
inline std::vector<std::filesystem::path> shard_files(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory / "shards")) {
    if (entry.is_regular_file()) found.push_back(entry.path());
  }
  return found;
}

}  // namespace ephfs::node::testing
