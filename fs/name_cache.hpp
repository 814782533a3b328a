// SPDX-License-Identifier: Apache-2.0
// Which inode a name leads to, or that it leads to none, as the catalog has it: between the question whether
// a name is there and the call that makes, moves or removes it the catalog need not be asked again. Of
// bounded size; what was not used for long is forgotten. Thread-safe.
//
// Every commit that changes names is told of before whoever made it returns. What was read before that must
// not be learnt after it, so a reader takes the version first and hands it in with what he read.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "meta/catalog.hpp"

namespace ephfs::fs {

using core::InodeNumber;

class NameCache {
 public:
  /// Names of each of two generations; the older one goes when the younger is full.
  static constexpr std::size_t kGenerationMax = 16'384;
  /// What a name leads to that is not there.
  static constexpr InodeNumber kAbsent{0};

  /// The inode, or kAbsent; none when that is not known.
  [[nodiscard]] std::optional<InodeNumber> find(InodeNumber parent, const std::string& name);
  [[nodiscard]] std::uint64_t version() const;
  /// The catalog has just answered `inode` (or kAbsent). Ignored when names have changed since `version`.
  void learn(InodeNumber parent, const std::string& name, InodeNumber inode, std::uint64_t version);
  /// The same of names that a listing of the directory gave.
  void learn(InodeNumber parent, const std::vector<meta::NameRecord>& names, std::uint64_t version);
  /// These were committed; what is not of names is passed over.
  void committed(const meta::Changes& changes);

 private:
  using Place = std::pair<InodeNumber, std::string>;
  struct PlaceHash {
    std::size_t operator()(const Place& place) const noexcept {
      constexpr std::size_t kOdd = 0x9e3779b97f4a7c15U;
      return std::hash<std::string>()(place.second) ^ (static_cast<std::size_t>(place.first.value) * kOdd);
    }
  };
  // Lock held.
  void put(Place place, InodeNumber inode);

  mutable std::mutex mutex_;
  std::uint64_t version_ = 0;
  std::unordered_map<Place, InodeNumber, PlaceHash> young_, old_;  // a name is in one of them
};

}  // namespace ephfs::fs
