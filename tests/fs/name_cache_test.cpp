// SPDX-License-Identifier: Apache-2.0
#include "fs/name_cache.hpp"

#include <gtest/gtest.h>

namespace ephfs::fs::testing {
namespace {

constexpr InodeNumber kParent{1};
constexpr InodeNumber kFile{2};

meta::Changes putting(const std::string& name, InodeNumber inode) {
  meta::Changes changes;
  changes.emplace_back(meta::PutName{kParent, name, inode});
  return changes;
}

TEST(NameCache, KnowsWhatWasCommitted) {
  NameCache cache;
  EXPECT_EQ(cache.find(kParent, "a"), std::nullopt);
  cache.committed(putting("a", kFile));
  EXPECT_EQ(cache.find(kParent, "a"), kFile);
  EXPECT_EQ(cache.find(kFile, "a"), std::nullopt) << "of another directory";
  meta::Changes gone;
  gone.emplace_back(meta::DropName{kParent, "a"});
  cache.committed(gone);
  EXPECT_EQ(cache.find(kParent, "a"), NameCache::kAbsent);
}

TEST(NameCache, LearnsNothingThatWasReadBeforeACommit) {
  NameCache cache;
  const auto version = cache.version();
  cache.committed(putting("a", kFile));
  cache.learn(kParent, "a", NameCache::kAbsent, version);
  EXPECT_EQ(cache.find(kParent, "a"), kFile);
  cache.learn(kParent, "b", NameCache::kAbsent, version);
  EXPECT_EQ(cache.find(kParent, "b"), std::nullopt);
  cache.learn(kParent, "b", NameCache::kAbsent, cache.version());
  EXPECT_EQ(cache.find(kParent, "b"), NameCache::kAbsent);
}

TEST(NameCache, ForgetsWhatWasNotUsedForLong) {
  NameCache cache;
  const auto version = cache.version();
  cache.learn(kParent, "used", kFile, version);
  cache.learn(kParent, "unused", kFile, version);
  for (std::size_t i = 0; i < 2 * NameCache::kGenerationMax; ++i) {
    cache.learn(kParent, std::to_string(i), kFile, version);
    ASSERT_EQ(cache.find(kParent, "used"), kFile) << i;
  }
  EXPECT_EQ(cache.find(kParent, "unused"), std::nullopt);
}

}  // namespace
}  // namespace ephfs::fs::testing
