// SPDX-License-Identifier: Apache-2.0
#include "fs/relocation.hpp"

#include <algorithm>

#include "fs/read_parts.hpp"

namespace ephfs::fs {
namespace {

constexpr std::uint64_t kCopyBytes = kStripeBytes;       // read at a time, at most, unless one slice is longer
constexpr std::uint64_t kBatchBytes = 4 * kStripeBytes;  // staged before they are committed
constexpr std::size_t kBatchMoves = 256;

/// Whether the file is there to be moved. Lock held.
bool is_there(const EngineState& state, const Inode& inode) {
  return !inode.removed && !inode.is_gone(state.clock.confirmed_now());
}

bool is_unchanged(const Inode& inode, const meta::ExtentRecord& slice) {
  const auto now = inode.data->extents().overlapping(slice.offset, slice.offset + slice.length);
  return now.size() == 1 && now.front() == slice;
}

}  // namespace

awaitable<Result<>> Relocation::move_out(std::shared_ptr<Inode> inode, StripeNumber stripe) {
  EPHFS_CO_TRY(auto slices, state_.catalog->extents_in(stripe));
  std::erase_if(slices, [&](const auto& slice) { return slice.inode != inode->number; });
  std::sort(slices.begin(), slices.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  for (std::size_t next = 0; next < slices.size();) {
    if (stop_.stop_requested()) co_return core::fail(core::Error::cancelled);
    auto copy = std::make_shared<Copy>();
    std::uint64_t bytes = 0;
    do {
      bytes += slices[next].length;
      copy->slices.push_back(slices[next++]);
    } while (next < slices.size() && bytes + slices[next].length <= kCopyBytes);
    copy->bytes = PlainBytes::of_size(bytes);
    auto got = co_await read(inode, copy.get());
    // The stripe has gone: nothing of the file is in it any more.
    if (!got && got.error().code == core::Error::not_found) co_return Result<>{};
    if (!got) co_return got;
    if (copy->slices.empty()) co_return Result<>{};
    EPHFS_CO_TRY_VOID(co_await stage(inode, copy));
    if (staged_bytes_ >= kBatchBytes || moves_.size() >= kBatchMoves) EPHFS_CO_TRY_VOID(commit());
  }
  co_return Result<>{};
}

awaitable<Result<>> Relocation::read(std::shared_ptr<Inode> inode, Copy* copy) {
  ReadPlan plan;
  {
    const std::unique_lock lock(inode->mutex);
    if (!is_there(state_, *inode)) {
      copy->slices.clear();
      co_return Result<>{};
    }
    EPHFS_CO_TRY_VOID(load_data(state_, *inode));
    plan.file = inode->data->cipher().file;
    plan.key = inode->data->key();
    // What was emptied since has another key, and other slices.
    std::erase_if(copy->slices, [&](const auto& slice) { return !is_unchanged(*inode, slice); });
  }
  for (const auto& slice : copy->slices) {
    plan.parts.push_back({slice, slice.offset, plan.length, static_cast<std::size_t>(slice.length)});
    plan.length += static_cast<std::size_t>(slice.length);
  }
  const net::CallLimits limits{state_.clock.boot_now() + state_.options.peer_timeout, stop_};
  const core::MutableByteView view = copy->bytes.mutable_view();
  co_return co_await read_parts(*state_.stripes, std::move(plan), view, true, limits);
}

awaitable<Result<>> Relocation::stage(std::shared_ptr<Inode> inode, std::shared_ptr<const Copy> copy) {
  const core::Boottime until = state_.clock.boot_now() + state_.options.peer_timeout;
  for (;;) {
    auto staged = try_stage(inode, *copy);
    if (staged || staged.error().code != core::Error::would_block) co_return staged;
    // What is pinned here cannot be placed, and what is not placed makes no room.
    EPHFS_CO_TRY_VOID(commit());
    auto room = co_await wait_for_room(state_, until, stop_);
    if (!room) co_return room;
  }
}

Result<> Relocation::try_stage(const std::shared_ptr<Inode>& inode, const Copy& copy) {
  auto move = std::unique_ptr<Move>(new Move{inode, {}, StagedContent(state_, *inode)});
  const std::unique_lock lock(inode->mutex);
  if (!is_there(state_, *inode)) return {};
  EPHFS_TRY_VOID(load_data(state_, *inode));
  // Neighbours become one extent again.
  std::size_t at = 0;
  std::size_t run_at = 0;
  std::uint64_t run_offset = 0;
  std::uint64_t run_length = 0;
  const auto finish_run = [&]() -> Result<> {
    if (run_length == 0) return {};
    return move->staged.stage({{run_offset, copy.bytes.view().subspan(run_at, run_length)}});
  };
  for (const auto& slice : copy.slices) {
    const std::size_t here = std::exchange(at, at + static_cast<std::size_t>(slice.length));
    if (!is_unchanged(*inode, slice)) continue;
    move->slices.push_back(slice);
    if (run_length > 0 && run_offset + run_length == slice.offset && run_at + run_length == here) {
      run_length += slice.length;
      continue;
    }
    EPHFS_TRY_VOID(finish_run());
    run_at = here;
    run_offset = slice.offset;
    run_length = slice.length;
  }
  EPHFS_TRY_VOID(finish_run());
  if (move->slices.empty()) return {};
  for (const auto& slice : move->slices) staged_bytes_ += slice.length;
  moves_.push_back(std::move(move));
  return {};
}

Result<> Relocation::commit() {
  auto moves = std::exchange(moves_, {});
  staged_bytes_ = 0;
  std::vector<StripeNumber> stripes;
  for (const auto& move : moves) {
    const auto used = move->staged.stripes();
    stripes.insert(stripes.end(), used.begin(), used.end());
  }
  std::sort(stripes.begin(), stripes.end());
  stripes.erase(std::unique(stripes.begin(), stripes.end()), stripes.end());
  if (stripes.empty()) return {};
  EPHFS_TRY_VOID(state_.stripes->sync(stripes));
  Result<> outcome;
  for (const auto& move : moves) {
    const std::unique_lock lock(move->inode->mutex);
    if (!is_there(state_, *move->inode)) continue;
    if (auto loaded = load_data(state_, *move->inode); !loaded) {
      outcome = std::move(loaded);
      continue;
    }
    const bool unchanged = std::all_of(move->slices.begin(), move->slices.end(),
                                       [&](const auto& slice) { return is_unchanged(*move->inode, slice); });
    auto committed =
        unchanged ? move->staged.commit({}) : Result<>(core::fail(core::Error::busy, "the file was written meanwhile"));
    if (!committed) outcome = std::move(committed);
  }
  return outcome;
}

}  // namespace ephfs::fs
