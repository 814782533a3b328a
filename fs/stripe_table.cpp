// SPDX-License-Identifier: Apache-2.0
#include "fs/stripe_table.hpp"

#include <algorithm>

#include "fs/stripe_coding.hpp"

namespace ephfs::fs {

using core::Error;
using core::fail;

namespace {

/// Rows are read from disk: buffers and indexes are made by them only when they can be.
bool can_be(const StripeRows& rows) {
  if (!is_possible(rows.record)) return false;
  const auto bytes = core::shard_bytes(rows.record.length, rows.record.profile);
  return std::ranges::all_of(rows.placements, [&](const auto& row) {
    return row.index < rows.record.profile.width() && row.shard_bytes == bytes;
  });
}

}  // namespace

Result<StripeRows> StripeTable::load(StripeNumber number) const {
  EPHFS_TRY(auto record, catalog_.stripe(number));
  if (!record) return fail(Error::not_found, "stripe " + std::to_string(number.value));
  EPHFS_TRY(auto placements, catalog_.placements(number));
  StripeRows rows{*record, std::move(placements)};
  if (!can_be(rows)) return fail(Error::damaged, "the rows of stripe " + std::to_string(number.value) + " cannot be");
  return rows;
}

Result<std::shared_ptr<const StripeRows>> StripeTable::find(StripeNumber number) {
  std::uint64_t generation = 0;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = entries_.find(number); found != entries_.end()) {
      by_use_.splice(by_use_.end(), by_use_, found->second.used);
      return found->second.rows;
    }
    generation = generation_;
  }
  EPHFS_TRY(auto loaded, load(number));
  auto rows = std::make_shared<const StripeRows>(std::move(loaded));
  const std::lock_guard lock(mutex_);
  if (generation == generation_ && rows->record.state != meta::StripeState::open) remember_locked(number, rows);
  return rows;
}

Result<> StripeTable::update(StripeNumber number, const Change& change) {
  const std::lock_guard updating(update_mutex_);
  EPHFS_TRY(auto rows, load(number));
  meta::Changes changes;
  EPHFS_TRY_VOID(change(rows, changes));
  if (changes.empty()) return {};
  EPHFS_TRY_VOID(catalog_.commit(changes));
  const std::lock_guard lock(mutex_);
  ++generation_;
  remember_locked(number, std::make_shared<const StripeRows>(std::move(rows)));
  return {};
}

Result<> StripeTable::put(const meta::StripeRecord& record) {
  const std::lock_guard updating(update_mutex_);
  EPHFS_TRY_VOID(catalog_.commit({meta::PutStripe{record}}));
  forget(record.number);
  return {};
}

Result<> StripeTable::drop(StripeNumber number, meta::Changes with) {
  const std::lock_guard updating(update_mutex_);
  EPHFS_TRY(const auto extents, catalog_.extents_in(number));
  if (!extents.empty()) return fail(Error::busy, "stripe " + std::to_string(number.value) + " has extents");
  with.emplace_back(meta::DropStripe{number});
  EPHFS_TRY_VOID(catalog_.commit(with));
  forget(number);
  return {};
}

void StripeTable::remember_locked(StripeNumber number, std::shared_ptr<const StripeRows> rows) {
  if (const auto found = entries_.find(number); found != entries_.end()) {
    found->second.rows = std::move(rows);
    by_use_.splice(by_use_.end(), by_use_, found->second.used);
    return;
  }
  entries_.emplace(number, Entry{std::move(rows), by_use_.insert(by_use_.end(), number)});
  if (entries_.size() > kRowsKept) {
    entries_.erase(by_use_.front());
    by_use_.pop_front();
  }
}

void StripeTable::forget(StripeNumber number) {
  const std::lock_guard lock(mutex_);
  ++generation_;
  if (const auto found = entries_.find(number); found != entries_.end()) {
    by_use_.erase(found->second.used);
    entries_.erase(found);
  }
}

}  // namespace ephfs::fs
