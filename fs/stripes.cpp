// SPDX-License-Identifier: Apache-2.0
#include "fs/stripes.hpp"

#include <algorithm>
#include <bit>

#include "fs/collector.hpp"
#include "fs/placer.hpp"
#include "fs/receipt_collector.hpp"
#include "fs/repairer.hpp"
#include "fs/stripe_coding.hpp"
#include "fs/stripe_reader.hpp"

namespace ephfs::fs {

using core::Error;
using core::fail;

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBuffersKept = 6;
constexpr std::size_t kParityKept = 4;
constexpr std::size_t kScratchKept = 16;
constexpr std::size_t kDebtsCounted = 10'000;
/// After something was sealed, what it replaced may be dead.
constexpr core::Nanoseconds kCollectAfterSeal = 2s;

}  // namespace

DeadlineBucket bucket_of(Deadline deadline, Milliseconds ttl) {
  constexpr std::int64_t kWidest = 3'600'000;
  const std::int64_t share = std::clamp<std::int64_t>(ttl.count() / 64, 1, kWidest);
  const auto width = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(share)));
  DeadlineBucket bucket{Deadline::never(), Milliseconds(width)};
  if (deadline.is_never()) return bucket;
  const std::int64_t ms = deadline.instant().ms;
  const std::int64_t over = ((ms % width) + width) % width;
  const std::int64_t up = over == 0 ? 0 : width - over;
  // One so late that its bucket's end cannot be written has a bucket of its own.
  if (ms > Deadline::never().raw() - 1 - up) return {deadline, Milliseconds(1)};
  bucket.end = Deadline(core::Instant{ms + up});
  return bucket;
}

StripesState::StripesState(Stripes::Context given, std::unique_ptr<StripeFiles> opened)
    : context(std::move(given)),
      unhurried(context.unhurried ? context.unhurried : context.executor),
      files(std::move(opened)),
      buffers(net::kShardBytesMax, kBuffersKept),
      parity(net::kShardBytesMax, kParityKept),
      scratch(kWindowBytes, kScratchKept),
      table(context.catalog),
      nodes(context.clock),
      log({context.options, context.catalog, context.peers, context.clock, *files, table, buffers, scratch,
           [this](std::string line) { say(std::move(line)); },
           [this](StripeNumber number) {
             placer->enqueue(number);
             collector->within(kCollectAfterSeal);
           }}),
      claims([this] {
        collector->soon();
        placer->wake();
        repairer->soon();
      }),
      gatherer({context.peers, nodes, context.clock, context.executor, tasks, context.options.hedge_delay,
                stop.get_token()}),
      placer(std::make_unique<Placer>(*this)),
      repairer(std::make_unique<Repairer>(*this)),
      collector(std::make_unique<Collector>(*this)),
      receipts(std::make_unique<ReceiptCollector>(*this)) {}

StripesState::~StripesState() = default;

void StripesState::report_faults(StripeNumber number, const std::vector<Gathered::Fault>& faults) {
  if (faults.empty()) return;
  const auto rows = table.find(number);
  if (!rows) return;
  std::vector<Gathered::Fault> owed;
  for (const auto& fault : faults) {
    if (fault.fault == ShardFault::lied) {
      if (!nodes.lied(fault.node)) say("reading stripe " + std::to_string(number.value) + ": " + fault.detail);
      nodes.caught_lying(fault.node);
      // The same node would be no better the second time; another may be.
      if (context.peers.all().size() <= (*rows)->record.profile.width()) continue;
    }
    owed.push_back(fault);
  }
  const auto noted = table.update(number, [&owed](StripeRows& fresh, meta::Changes& changes) -> Result<> {
    for (const auto& fault : owed) {
      for (auto& row : fresh.placements) {
        if (row.index != fault.index || row.node != fault.node || row.lease_deadline.raw() == 0) continue;
        mark_owed(row);
        changes.emplace_back(meta::PutPlacement{row});
      }
    }
    return {};
  });
  if (noted && !owed.empty()) repairer->soon();
}

namespace {

class StripesOnDisk final : public Stripes {
 public:
  StripesOnDisk(Context context, std::unique_ptr<StripeFiles> files)
      : state_(std::move(context), std::move(files)), reader_(state_) {}

  [[nodiscard]] Result<> recover() { return state_.log.recover(); }

  void start() override {
    const auto stop = state_.stop.get_token();
    const auto& executor = state_.context.executor;
    state_.tasks.spawn(executor, [this, stop] { return state_.log.run(stop); });
    state_.tasks.spawn(executor, [this, stop] { return state_.placer->run(stop); });
    state_.tasks.spawn(executor, [this, stop] { return state_.repairer->run(stop); });
    state_.tasks.spawn(executor, [this, stop] { return state_.collector->run(stop); });
    state_.tasks.spawn(executor, [this, stop] { return state_.receipts->run(stop); });
  }

  [[nodiscard]] awaitable<void> stop() override {
    state_.stop.request_stop();
    state_.log.wake();
    state_.placer->wake();
    state_.repairer->soon();
    state_.collector->wake();
    state_.receipts->wake();
    state_.log.changes().notify_all();
    co_await state_.tasks.join();
  }

  [[nodiscard]] Result<Staged> stage(const StageRequest& request) override { return state_.log.stage(request); }

  [[nodiscard]] awaitable<Result<>> room(core::Boottime until) override;

  [[nodiscard]] Result<> try_read(const meta::ExtentRecord& extent, FileCipher cipher, std::uint64_t offset,
                                  core::MutableByteView out) override {
    return reader_.try_read(extent, cipher, offset, out);
  }
  [[nodiscard]] awaitable<Result<>> read(meta::ExtentRecord extent, FileCipher cipher, std::uint64_t offset,
                                         core::MutableByteView out, bool sequential, net::CallLimits limits) override {
    return reader_.read(extent, cipher, offset, out, sequential, std::move(limits));
  }
  void prefetch(StripeNumber stripe) override { reader_.prefetch(stripe); }

  [[nodiscard]] Result<> sync(const std::vector<StripeNumber>& stripes) override { return state_.log.sync(stripes); }
  [[nodiscard]] awaitable<Result<>> settle(std::vector<StripeNumber> stripes, Durability durability,
                                           core::Boottime until) override;
  [[nodiscard]] Result<> set_deadline(StripeNumber stripe, Deadline deadline) override;
  void collect_soon() override { state_.collector->soon(); }
  [[nodiscard]] Result<StripeHealth> health(StripeNumber stripe) const override;
  [[nodiscard]] StripeCounters counters() const override;

 private:
  /// Whether a stripe is as safe as asked, a failure when it will not be, would_block while that is open.
  [[nodiscard]] Result<> settled(StripeNumber number, Durability durability, std::uint64_t attempts_before) const;

  mutable StripesState state_;
  StripeReader reader_;
};

awaitable<Result<>> StripesOnDisk::room(core::Boottime until) {
  const auto listener = state_.log.changes().subscribe();
  while (!state_.log.has_room()) {
    if (state_.stop.stop_requested()) co_return fail(Error::cancelled);
    if (state_.context.clock.boot_now() >= until) {
      const std::string why = state_.placer->last_error();
      co_return fail(Error::timed_out, "staging is full" + (why.empty() ? "" : "; " + why));
    }
    co_await listener->wait(state_.context.clock, until);
  }
  co_return Result<>();
}

Result<> StripesOnDisk::settled(StripeNumber number, Durability durability, std::uint64_t attempts_before) const {
  if (const auto staged = state_.log.find(number)) {
    if (staged->damaged) return fail(Error::damaged, "staged stripe " + std::to_string(number.value));
    const auto status = state_.placer->status(number);
    if (status.failure && status.certain && status.attempts > attempts_before) return *status.failure;
    return status.failure ? fail(Error::would_block, status.failure->message()) : fail(Error::would_block);
  }
  const auto rows = state_.table.find(number);
  // What is no more needs nothing.
  if (!rows) return rows.error().code == Error::not_found ? Result<>() : Result<>(rows.error());
  if ((*rows)->record.state != meta::StripeState::placed) return fail(Error::would_block);
  if (durability == Durability::full) {
    const auto owed = std::ranges::count((*rows)->placements, false, &meta::PlacementRecord::stored);
    if (owed > 0) return fail(Error::would_block, std::to_string(owed) + " shards are owed to their nodes");
  }
  return {};
}

awaitable<Result<>> StripesOnDisk::settle(std::vector<StripeNumber> stripes, Durability durability,
                                          core::Boottime until) {
  if (durability == Durability::local) co_return state_.log.sync(stripes);
  std::vector<std::uint64_t> attempts;
  for (const StripeNumber number : stripes) {
    attempts.push_back(state_.placer->status(number).attempts);
    state_.log.close(number);
    state_.placer->hurry(number);
  }
  if (durability == Durability::full && state_.nodes.next_ready()) {
    // What is owed may be owed to a node that is being left alone.
    state_.nodes.forgive();
    state_.repairer->soon();
  }
  const auto listener = state_.log.changes().subscribe();
  for (;;) {
    std::optional<core::Failure> open;
    for (std::size_t i = 0; i < stripes.size(); ++i) {
      auto one = settled(stripes[i], durability, attempts[i]);
      if (one) continue;
      if (one.error().code != Error::would_block) co_return one;
      open = std::move(one).error();
    }
    if (!open) co_return Result<>();
    if (state_.stop.stop_requested()) co_return fail(Error::cancelled);
    if (state_.context.clock.boot_now() >= until) {
      co_return fail(Error::io, open->detail.empty() ? "placing takes longer than it may" : open->detail);
    }
    co_await listener->wait(state_.context.clock, until);
  }
}

Result<> StripesOnDisk::set_deadline(StripeNumber number, Deadline deadline) {
  if (state_.log.set_open_deadline(number, deadline)) return {};
  StripeName name{number, {}};
  EPHFS_TRY_VOID(state_.table.update(number, [&](StripeRows& rows, meta::Changes& changes) -> Result<> {
    name.id = rows.record.id;
    if (rows.record.deadline == deadline) return {};
    rows.record.deadline = deadline;
    changes.emplace_back(meta::PutStripe{rows.record});
    for (auto& row : rows.placements) {
      // Owed again: the receipt is for another lease. What the node last agreed to stays.
      if (!row.stored || row.lease_deadline == deadline) continue;
      row.stored = false;
      row.receipt.clear();
      changes.emplace_back(meta::PutPlacement{row});
    }
    return {};
  }));
  state_.log.set_sealed_deadline(number, deadline);
  state_.files->set_deadline(name, deadline);
  if (deadline.passed(state_.context.clock.confirmed_now())) {
    state_.collector->soon();
  } else {
    state_.repairer->soon();
    if (!deadline.is_never()) {
      const core::Nanoseconds left =
          std::min<core::Nanoseconds>(deadline.instant() - state_.context.clock.confirmed_now(), 24h);
      state_.collector->within(left);
    }
  }
  return {};
}

Result<StripeHealth> StripesOnDisk::health(StripeNumber number) const {
  StripeHealth health;
  if (const auto staged = state_.log.find(number)) {
    health.stripe = staged->record;
    health.local = !staged->damaged;
    if (!staged->open) {
      EPHFS_TRY(const auto rows, state_.table.find(number));
      health.placements = rows->placements;
    }
  } else {
    EPHFS_TRY(const auto rows, state_.table.find(number));
    health.stripe = rows->record;
    health.placements = rows->placements;
    health.local = state_.files->holds({number, rows->record.id});
  }
  for (const auto& row : health.placements) {
    const auto peer = state_.context.peers.find(row.node);
    if (row.stored && peer && peer->reachable()) ++health.reachable;
  }
  return health;
}

StripeCounters StripesOnDisk::counters() const {
  StripeCounters counters;
  const auto staged = state_.log.counts();
  counters.staged_bytes = staged.bytes;
  counters.open_stripes = staged.open;
  counters.sealed_stripes = staged.sealed;
  counters.cached_bytes = state_.files->cached_bytes();
  if (const auto owed = state_.context.catalog.owed(kDebtsCounted)) counters.shards_owed = owed->size();
  if (const auto removals = state_.context.catalog.removals(kDebtsCounted)) counters.removals_owed = removals->size();
  counters.last_error = state_.placer->last_error();
  return counters;
}

}  // namespace

Result<std::unique_ptr<Stripes>> Stripes::open(Context context) {
  EPHFS_TRY(auto files, StripeFiles::open(context.options.directory, context.options.cache_bytes));
  auto stripes = std::make_unique<StripesOnDisk>(std::move(context), std::move(files));
  EPHFS_TRY_VOID(stripes->recover());
  return std::unique_ptr<Stripes>(std::move(stripes));
}

}  // namespace ephfs::fs
