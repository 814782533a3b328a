// SPDX-License-Identifier: Apache-2.0
#include "fs/stripe_reader.hpp"

#include <algorithm>

#include "fs/stripe_coding.hpp"

namespace ephfs::fs {

using core::Error;
using core::fail;

namespace {

constexpr std::size_t kFlightsMax = 8;
constexpr std::size_t kPrefetchesMax = 4;

std::string stripe_text(StripeNumber number) {
  return "stripe " + std::to_string(number.value);
}

}  // namespace

Result<> StripeReader::check_lives(const meta::StripeRecord& record) const {
  if (!record.deadline.passed(state_.context.clock.now())) return {};
  return fail(Error::not_found, stripe_text(record.number) + " has died");
}

Result<meta::StripeRecord> StripeReader::record_of(StripeNumber number) {
  meta::StripeRecord record;
  if (const auto staged = state_.log.find(number)) {
    record = staged->record;
  } else {
    EPHFS_TRY(const auto rows, state_.table.find(number));
    record = rows->record;
  }
  EPHFS_TRY_VOID(check_lives(record));
  return record;
}

Result<> StripeReader::try_read(const meta::ExtentRecord& extent, FileCipher cipher, std::uint64_t offset,
                                core::MutableByteView out) {
  bool cache_damaged = false;
  return read_local({extent, cipher, offset, out}, cache_damaged);
}

Result<> StripeReader::read_local(const WantedSlice& wanted, bool& cache_damaged) {
  if (wanted.out.empty()) return {};
  const StripeNumber number = wanted.extent.stripe;
  const auto from_file = [](SharedFile file) {
    return [file = std::move(file)](std::uint64_t offset, core::MutableByteView room) -> Result<core::ByteView> {
      EPHFS_TRY_VOID(core::read_exactly(*file, offset, room));
      return core::ByteView(room);
    };
  };
  if (const auto staged = state_.log.find(number)) {
    EPHFS_TRY_VOID(check_lives(staged->record));
    if (staged->damaged) return fail(Error::damaged, "staged " + stripe_text(number));
    return open_slice(staged->record, wanted, from_file(staged->file), state_.scratch);
  }
  EPHFS_TRY(const auto rows, state_.table.find(number));
  const meta::StripeRecord& record = rows->record;
  EPHFS_TRY_VOID(check_lives(record));
  EPHFS_TRY(const BlockCut cut, cut_blocks(record.format, wanted.extent, wanted.offset, wanted.out.size()));
  const StripeName name{number, record.id};
  const auto file = state_.files->cached_range(name, cut.stripe_offset, cut.sealed_bytes);
  if (!file) return fail(Error::would_block);
  auto opened = open_slice(record, wanted, from_file(file), state_.scratch);
  if (opened || opened.error().code != Error::damaged) return opened;
  state_.say("cached copy of " + stripe_text(number) + " is damaged; dropped");
  state_.files->remove_cached(name);
  cache_damaged = true;
  return fail(Error::would_block);
}

awaitable<Result<>> StripeReader::read(meta::ExtentRecord extent, FileCipher cipher, std::uint64_t offset,
                                       core::MutableByteView out, bool sequential, net::CallLimits limits) {
  const WantedSlice wanted{extent, cipher, offset, out};
  bool verified = false;
  for (;;) {
    auto local = read_local(wanted, verified);
    if (local || local.error().code != Error::would_block) co_return local;
    auto rows = state_.table.find(extent.stripe);
    if (!rows) co_return rows.error();
    if ((*rows)->record.state != meta::StripeState::placed) {
      // It is neither here nor placed, unless it was placed this moment.
      if (state_.log.find(extent.stripe)) continue;
      auto again = state_.table.find(extent.stripe);
      if (!again) co_return again.error();
      if ((*again)->record.state == meta::StripeState::placed) continue;
      co_return fail(Error::damaged, stripe_text(extent.stripe) + " is neither staged nor placed");
    }
    const auto cut = cut_blocks((*rows)->record.format, extent, offset, out.size());
    if (!cut) co_return cut.error();
    if (cut->stripe_offset + cut->sealed_bytes > (*rows)->record.length) {
      co_return fail(Error::damaged, stripe_text(extent.stripe) + ": an extent reaches past its end");
    }
    std::shared_ptr<Flight> flight;
    if (sequential && !verified) flight = join_flight(*rows, kFlightsMax);
    Result<CiphertextPtr> fetched = CiphertextPtr();
    if (flight) {
      fetched = co_await wait_for(flight, limits);
    } else {
      fetched = co_await fetch_range(*rows, *cut, verified, limits);
    }
    if (!fetched) {
      // Deleted while it was being fetched, or gone by its deadline: the nodes' word for it says less.
      auto record = record_of(extent.stripe);
      if (!record) co_return record.error();
      co_return fetched.error();
    }
    const CiphertextSource source = [ciphertext = *fetched](std::uint64_t at, core::MutableByteView room) {
      return ciphertext->view(at, room);
    };
    auto opened = open_slice((*rows)->record, wanted, source, state_.scratch);
    if (opened) {
      auto record = record_of(extent.stripe);
      co_return record ? Result<>() : Result<>(record.error());
    }
    if (verified || opened.error().code != Error::damaged) co_return opened;
    // Somebody gave bytes that are not the stripe's: once more, with proofs.
    state_.files->remove_cached({extent.stripe, (*rows)->record.id});
    verified = true;
  }
}

/// Fetches the chunks around `cut`, and caches them.
awaitable<Result<CiphertextPtr>> StripeReader::fetch_range(std::shared_ptr<const StripeRows> rows, BlockCut cut,
                                                           bool verified, net::CallLimits limits) {
  const meta::StripeRecord& record = rows->record;
  const std::uint64_t padded = padded_length(record);
  const std::uint64_t from = cut.stripe_offset / StripeFiles::kChunkBytes * StripeFiles::kChunkBytes;
  const std::uint64_t chunks_end = (cut.stripe_offset + cut.sealed_bytes + StripeFiles::kChunkBytes - 1) /
                                   StripeFiles::kChunkBytes * StripeFiles::kChunkBytes;
  const std::uint64_t end = std::min(chunks_end, padded);
  auto gathered = co_await gather_range(state_.gatherer, state_.context.executor, state_.tasks, rows, from, end,
                                        verified, std::move(limits));
  state_.report_faults(record.number, gathered.faults);
  if (!gathered.ciphertext) co_return gathered.ciphertext.error();
  const CiphertextPtr ciphertext = *std::move(gathered.ciphertext);
  if (ciphertext->pieces.size() == 1) {
    state_.files->put_range({record.number, record.id}, padded, from, ciphertext->pieces.front().view(),
                            record.deadline);
  } else {
    core::Buffer joined(end - from);
    (void)ciphertext->copy(from, joined.view());
    state_.files->put_range({record.number, record.id}, padded, from, joined.view(), record.deadline);
  }
  co_return ciphertext;
}

/// The flight that fetches this stripe: the one there is, or a new one; null when `most` are under way or the cache
/// could not hold it.
std::shared_ptr<StripeReader::Flight> StripeReader::join_flight(const std::shared_ptr<const StripeRows>& rows,
                                                                std::size_t most) {
  std::shared_ptr<Flight> flight;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = flights_.find(rows->record.number); found != flights_.end()) return found->second;
    if (flights_.size() >= most || padded_length(rows->record) > state_.context.options.cache_bytes) return nullptr;
    flight = std::make_shared<Flight>();
    flights_.emplace(rows->record.number, flight);
  }
  state_.tasks.spawn(state_.context.executor, [this, rows, flight] { return fly(rows, flight); });
  return flight;
}

awaitable<void> StripeReader::fly(std::shared_ptr<const StripeRows> rows, std::shared_ptr<Flight> flight) {
  const meta::StripeRecord& record = rows->record;
  GatherRequest request;
  request.rows = rows;
  request.length = core::shard_bytes(record.length, record.profile);
  for (unsigned index = 0; index < record.profile.k; ++index) request.wanted.push_back(index);
  auto limits = state_.call_limits(state_.stop.get_token());
  auto gathered = co_await state_.gatherer.gather(std::move(request), std::move(limits));
  state_.report_faults(record.number, gathered.faults);
  Result<CiphertextPtr> result = CiphertextPtr();
  if (gathered.ranges) {
    auto ciphertext = std::make_shared<Ciphertext>();
    ciphertext->pieces = std::move(*gathered.ranges);
    result = CiphertextPtr(std::move(ciphertext));
  } else {
    result = gathered.ranges.error();
  }
  {
    const std::lock_guard lock(mutex_);
    flight->result = result;
  }
  flight->landed.notify_all();
  // Whoever waited has it before the cache.
  co_await core::yield();
  const bool lives = record_of(record.number).has_value();
  if (result && lives) state_.files->put_whole({record.number, record.id}, (*result)->pieces, record.deadline);
  const std::lock_guard lock(mutex_);
  flights_.erase(record.number);
}

awaitable<Result<CiphertextPtr>> StripeReader::wait_for(std::shared_ptr<Flight> flight, net::CallLimits limits) {
  auto listener = flight->landed.subscribe();
  std::function<void()> wake = [listener] { listener->notify(); };
  const std::stop_callback<std::function<void()>> on_stop(limits.stop, std::move(wake));
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (flight->result) co_return *flight->result;
    }
    if (limits.stop.stop_requested()) co_return fail(Error::cancelled);
    if (state_.context.clock.boot_now() >= limits.until) co_return fail(Error::io, "its nodes did not answer in time");
    co_await listener->wait(state_.context.clock, limits.until);
  }
}

void StripeReader::prefetch(StripeNumber number) {
  if (state_.stop.stop_requested() || state_.log.find(number)) return;
  const auto rows = state_.table.find(number);
  if (!rows || (*rows)->record.state != meta::StripeState::placed) return;
  const meta::StripeRecord& record = (*rows)->record;
  if (record.deadline.passed(state_.context.clock.now()) || state_.files->holds({number, record.id})) return;
  (void)join_flight(*rows, kPrefetchesMax);
}

}  // namespace ephfs::fs
