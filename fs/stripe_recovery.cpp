// SPDX-License-Identifier: Apache-2.0
// What StripeLog does when a volume is opened: staging and cache against the catalog.
#include <algorithm>

#include <sys/stat.h>
#include <unistd.h>

#include "fs/stripe_coding.hpp"
#include "fs/stripe_log.hpp"

namespace ephfs::fs {

namespace {

constexpr std::size_t kBatch = 1000;
constexpr std::size_t kSealedMax = std::size_t{1} << 20U;

std::uint64_t size_of(const core::FileDescriptor& file) {
  struct stat facts {};
  return ::fstat(file.get(), &facts) == 0 ? static_cast<std::uint64_t>(facts.st_size) : 0;
}

}  // namespace

Result<> StripeLog::recover() {
  EPHFS_TRY(const StripeNumber last, context_.catalog.last_stripe());
  next_number_ = last.value + 1;
  for (const auto& name : context_.files.found().staged) next_number_ = std::max(next_number_, name.number.value + 1);

  for (;;) {
    EPHFS_TRY(const auto open, context_.catalog.stripes_in_state(meta::StripeState::open, kBatch));
    for (const auto& record : open) EPHFS_TRY_VOID(recover_open(record));
    if (open.size() < kBatch) break;
  }
  EPHFS_TRY(const auto sealed, context_.catalog.stripes_in_state(meta::StripeState::sealed, kSealedMax));
  for (const auto& record : sealed) EPHFS_TRY_VOID(recover_sealed(record));
  return recover_files();
}

/// Ends at the last extent that was committed and still counts; what is behind it nobody will miss.
Result<> StripeLog::recover_open(const meta::StripeRecord& open) {
  EPHFS_TRY(const auto extents, context_.catalog.extents_in(open.number));
  if (extents.empty()) return context_.table.drop(open.number, {});
  meta::StripeRecord record = open;
  record.state = meta::StripeState::sealed;
  record.length = 0;
  for (const auto& extent : extents) {
    if (const auto cut = cut_blocks(record.format, extent, extent.offset, extent.length); !cut) {
      context_.log("stripe " + std::to_string(record.number.value) + ": " + cut.error().message());
      continue;
    }
    record.length = std::max(
        record.length, extent.stripe_offset + sealed_length(extent.origin_length, core::block_bytes_of(record.format)));
  }
  EPHFS_TRY(record.deadline, last_deadline(extents));
  const auto file = context_.files.open_staged({record.number, record.id});
  if (file && is_possible(record) && size_of(**file) >= record.length) {
    if (::ftruncate((*file)->get(), static_cast<off_t>(record.length)) != 0) {
      return core::fail_errno("truncate staged stripe " + std::to_string(record.number.value));
    }
    EPHFS_TRY_VOID(pad(record, **file, nullptr, record.length));
  }
  return context_.table.put(record);
}

/// Whether the first `size` bytes of the stripe are worth keeping.
Result<bool> StripeLog::holds_extents(const meta::StripeRecord& record, std::uint64_t size) const {
  EPHFS_TRY(const auto extents, context_.catalog.extents_in(record.number));
  return std::ranges::any_of(extents, [&](const meta::ExtentRecord& extent) {
    return extent.stripe_offset + sealed_length(extent.origin_length, core::block_bytes_of(record.format)) <= size;
  });
}

/// What a loss of power took from the end of the file is lost; what was synced before it is not.
Result<> StripeLog::recover_sealed(const meta::StripeRecord& record) {
  const StripeName name{record.number, record.id};
  const auto file = context_.files.open_staged(name);
  const std::uint64_t size = file ? size_of(**file) : 0;
  bool damaged = !is_possible(record);
  if (!damaged && size < record.length) {
    EPHFS_TRY(const bool has_some, holds_extents(record, size));
    damaged = !has_some;
  }
  if (damaged || size < record.length) {
    context_.log("staged stripe " + context_.files.staged_path(name).string() + " has " + std::to_string(size) +
                 " of " + std::to_string(record.length) + " bytes: what is " + (damaged ? "in it" : "behind them") +
                 " is lost");
  }
  if (!damaged && size < padded_length(record)) EPHFS_TRY_VOID(pad(record, **file, nullptr, size));
  insert_sealed(record, damaged);
  if (!damaged) context_.on_sealed(record.number);
  return {};
}

Result<Deadline> StripeLog::last_deadline(const std::vector<meta::ExtentRecord>& extents) const {
  Deadline last = Deadline::from_raw(0);
  std::set<InodeNumber> seen;
  for (const auto& extent : extents) {
    if (!seen.insert(extent.inode).second) continue;
    EPHFS_TRY(const auto inode, context_.catalog.inode(extent.inode));
    if (inode) last = std::max(last, inode->deadline);
  }
  return last;
}

void StripeLog::insert_sealed(const meta::StripeRecord& record, bool damaged) {
  auto entry = std::make_shared<Entry>();
  entry->record = record;
  entry->phase = Phase::sealed;
  entry->appended = damaged ? 0 : record.length;
  entry->latest = record.deadline;
  entry->damaged = damaged;
  entry->loose = 1;  // what the last run has synced is not known
  const std::lock_guard lock(mutex_);
  staged_bytes_ += entry->appended;
  entries_.emplace(record.number, std::move(entry));
}

Result<> StripeLog::recover_files() {
  const core::Instant now = context_.clock.confirmed_now();
  for (const auto& name : context_.files.found().staged) {
    if (entries_.contains(name.number) && entries_.at(name.number)->record.id == name.id) continue;
    EPHFS_TRY(const auto record, context_.catalog.stripe(name.number));
    const bool placed = record && record->id == name.id && record->state == meta::StripeState::placed;
    if (placed && is_possible(*record) && !record->deadline.passed(now)) {
      // Placed just before the last run ended.
      const auto file = context_.files.open_staged(name);
      if (file && size_of(**file) >= padded_length(*record) &&
          context_.files.adopt(name, padded_length(*record), record->deadline)) {
        continue;
      }
    }
    context_.files.remove_staged(name);
  }
  for (const auto& name : context_.files.found().cached) {
    EPHFS_TRY(const auto record, context_.catalog.stripe(name.number));
    const bool placed = record && record->id == name.id && record->state == meta::StripeState::placed;
    if (placed && is_possible(*record) && !record->deadline.passed(now)) {
      (void)context_.files.keep_cached(name, padded_length(*record), record->deadline);
    } else {
      context_.files.drop_found(name);
    }
  }
  return {};
}

}  // namespace ephfs::fs
