// SPDX-License-Identifier: Apache-2.0
// Inodes whose wrapped keys can be told from everything else on a disk, and the search for them.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "core/files.hpp"
#include "core/little_endian.hpp"
#include "tests/meta/records.hpp"
#include "tests/support/seeded.hpp"

namespace ephfs::meta::testing {

class MarkedKeys {
 public:
  /// Makes an inode, changes one (its key, its length) or drops one.
  [[nodiscard]] Changes next_changes() {
    const auto dice = random.below(10);
    if (inodes_.empty() || dice < 5) return {put({2 + random.below(100'000)})};
    const auto chosen = std::next(inodes_.begin(), static_cast<std::ptrdiff_t>(random.below(inodes_.size())));
    if (dice < 8) return {put(chosen->first)};
    const InodeNumber number = chosen->first;
    inodes_.erase(chosen);
    return {DropInode{number}};
  }
  [[nodiscard]] Changes drop_all() {
    Changes changes;
    for (const auto& [number, key] : inodes_) changes.push_back(DropInode{number});
    inodes_.clear();
    return changes;
  }
  [[nodiscard]] std::size_t living() const { return inodes_.size(); }

  struct Found {
    std::set<std::uint64_t> living;
    std::set<std::uint64_t> dead;
  };
  /// The keys that are in any file of `directory`, by number.
  [[nodiscard]] Found find_in(const std::filesystem::path& directory) const {
    std::set<std::uint64_t> living;
    for (const auto& [number, key] : inodes_) living.insert(key);
    Found found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
      if (!entry.is_regular_file() || entry.file_size() == 0) continue;
      const auto content = core::read_file(entry.path(), std::size_t{1} << 30U).value();
      const core::ByteView mark = core::as_bytes(kMark);
      auto at = content.begin();
      while ((at = std::search(at, content.end(), mark.begin(), mark.end())) != content.end()) {
        at += static_cast<std::ptrdiff_t>(mark.size());
        if (content.end() - at < 8) break;
        const auto key = core::load_le<std::uint64_t>({&*at, 8});
        (living.contains(key) ? found.living : found.dead).insert(key);
      }
    }
    return found;
  }

  ephfs::testing::Random random;

 private:
  static constexpr std::string_view kMark = "a key that is marked ";

  Change put(InodeNumber number) {
    InodeRecord inode = regular(number.value);
    inode.links = 0;
    inode.wrapped_key = core::to_bytes(core::as_bytes(kMark));
    inode.wrapped_key.resize(kMark.size() + 8);
    core::store_le(core::MutableByteView(inode.wrapped_key).last(8), ++last_key_);
    inode.target = std::string(random.below(random.chance(8) ? 1500 : 90), 't');
    inodes_[number] = last_key_;
    return PutInode{std::move(inode)};
  }

  std::map<InodeNumber, std::uint64_t> inodes_;
  std::uint64_t last_key_ = 0;
};

}  // namespace ephfs::meta::testing
