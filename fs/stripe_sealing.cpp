// SPDX-License-Identifier: Apache-2.0
// What StripeLog does in the background: sealing what is due.
#include "fs/stripe_coding.hpp"
#include "fs/stripe_log.hpp"

namespace ephfs::fs {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kSealedFilesOpen = 64;
constexpr core::Nanoseconds kSealRetry = 1s;

}  // namespace

awaitable<void> StripeLog::run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    const auto due = seal_due();
    co_await wake_.wait(context_.clock, due);
  }
}

/// Seals what is due and unpinned; when the next is due.
std::optional<core::Boottime> StripeLog::seal_due() {
  const core::Boottime now = context_.clock.boot_now();
  std::vector<EntryPtr> ready;
  {
    const std::lock_guard lock(mutex_);
    std::vector<EntryPtr> aged;
    for (const auto& [bucket, entry] : open_) {
      if (entry->seal_at <= now) aged.push_back(entry);
    }
    for (const auto& entry : aged) close_locked(entry);
    for (const StripeNumber number : closing_) {
      const EntryPtr& entry = entries_.at(number);
      if (entry->pins > 0 || entry->phase != Phase::closing) continue;
      entry->phase = Phase::sealing;
      ready.push_back(entry);
    }
    retry_at_.reset();
  }
  for (const auto& entry : ready) {
    const auto sealed = seal(entry);
    if (sealed) continue;
    if (!std::exchange(entry->complained, true)) {
      context_.log("sealing stripe " + std::to_string(entry->record.number.value) + ": " + sealed.error().message());
    }
    const std::lock_guard lock(mutex_);
    entry->phase = Phase::closing;
    retry_at_ = now + kSealRetry;
  }
  const std::lock_guard lock(mutex_);
  std::optional<core::Boottime> next = retry_at_;
  for (const auto& [bucket, entry] : open_) {
    if (!next || entry->seal_at < *next) next = entry->seal_at;
  }
  return next;
}

Result<> StripeLog::seal(const EntryPtr& entry) {
  const StripeNumber number = entry->record.number;
  meta::StripeRecord record = entry->record;
  record.state = meta::StripeState::sealed;
  record.length = entry->appended;
  EPHFS_TRY(const auto known, context_.catalog.stripe(number));
  if (!known) {
    // Nothing in it was ever committed.
    discard(number);
    return {};
  }
  std::shared_ptr<core::Buffer> memory;
  {
    const std::lock_guard lock(mutex_);
    memory = entry->memory;
  }
  EPHFS_TRY_VOID(pad(record, *entry->file, memory.get(), record.length));
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (record.deadline == entry->latest && entry->record.state == meta::StripeState::sealed) {
        entry->phase = Phase::sealed;
        if (memory) entry->ciphertext = shared_part(memory, 0, padded_length(record));
        entry->memory = nullptr;
        closing_.erase(number);
        if (sealed_files_open_ < kSealedFilesOpen) {
          ++sealed_files_open_;
        } else {
          entry->file = nullptr;
        }
        break;
      }
      record.deadline = entry->latest;
    }
    EPHFS_TRY_VOID(context_.table.put(record));
    const std::lock_guard lock(mutex_);
    entry->record = record;
  }
  context_.on_sealed(number);
  changed_.notify_all();
  return {};
}

Result<> StripeLog::pad(const meta::StripeRecord& record, const core::FileDescriptor& file, core::Buffer* memory,
                        std::uint64_t at) {
  const std::uint64_t padded = padded_length(record);
  const auto scratch = memory != nullptr ? nullptr : context_.scratch.take();
  while (at < padded) {
    const std::uint64_t length = std::min<std::uint64_t>(padded - at, kWindowBytes);
    const auto part = memory != nullptr ? memory->view().subspan(at, length) : scratch->view().first(length);
    core::fill_random(part);
    EPHFS_TRY_VOID(core::write_all(file, at, part));
    at += part.size();
  }
  return {};
}

}  // namespace ephfs::fs
