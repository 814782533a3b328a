// SPDX-License-Identifier: Apache-2.0
// The catalog's rows of sealed and placed stripes, as the data path sees them: recently used ones are kept in memory,
// and whoever changes a stripe's rows does it through update(), so that two tasks never write from two old copies.
//
// Open stripes are the StripeLog's: their record is committed by the engine with the extents, and is the same whoever
// commits it. Thread-safe; a reader may hold rows that are replaced meanwhile, and asks again when they lead nowhere.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "meta/catalog.hpp"

namespace ephfs::fs {

using core::Result;
using core::StripeNumber;

struct StripeRows {
  meta::StripeRecord record;                      // `live` as it was when read: of no use here
  std::vector<meta::PlacementRecord> placements;  // by index; none before the stripe was first placed
};

class StripeTable {
 public:
  explicit StripeTable(meta::Catalog& catalog) : catalog_(catalog) {}

  /// not_found when there is no such stripe.
  [[nodiscard]] Result<std::shared_ptr<const StripeRows>> find(StripeNumber number);

  /// Reads the rows, lets `change` edit them and name the changes to commit (PutStripe, PutPlacement, removals),
  /// commits. One update at a time. not_found, or what `change` or the commit gives; the rows are then as they were.
  using Change = std::function<Result<>(StripeRows& rows, meta::Changes& changes)>;
  [[nodiscard]] Result<> update(StripeNumber number, const Change& change);

  /// Commits a stripe's record as it is.
  [[nodiscard]] Result<> put(const meta::StripeRecord& record);
  /// Commits DropStripe and `with`; busy while it still has extents.
  [[nodiscard]] Result<> drop(StripeNumber number, meta::Changes with);

 private:
  static constexpr std::size_t kRowsKept = 1024;
  struct Entry {
    std::shared_ptr<const StripeRows> rows;
    std::list<StripeNumber>::iterator used;
  };

  [[nodiscard]] Result<StripeRows> load(StripeNumber number) const;
  void remember_locked(StripeNumber number, std::shared_ptr<const StripeRows> rows);
  void forget(StripeNumber number);

  meta::Catalog& catalog_;
  std::mutex update_mutex_;  // held over an update's reading and commit; taken before mutex_
  std::mutex mutex_;         // guards what follows
  std::unordered_map<StripeNumber, Entry> entries_;
  std::list<StripeNumber> by_use_;
  std::uint64_t generation_ = 0;  // counts changes: what was read before one is not remembered after it
};

}  // namespace ephfs::fs
