// SPDX-License-Identifier: Apache-2.0
#include "fs/engine.hpp"

#include <unistd.h>

#include "fs/engine_state.hpp"
#include "fs/maintenance.hpp"
#include "fs/puncturer.hpp"
#include "fs/reaper.hpp"
#include "fs/scrubber.hpp"
#include "fs/share_book.hpp"
#include "fs/warner.hpp"

namespace ephfs::fs {
namespace {

constexpr std::size_t kSweepBatch = 256;
/// How long stopping waits for room in staging: an unmount always ends, and what is still in memory then is
/// reported lost.
constexpr Milliseconds kLastFlushMax{3000};

Result<> ensure_root(EngineState& state) {
  EPHFS_TRY(const auto present, state.catalog->inode(core::kRootInode));
  if (present) {
    if (!S_ISDIR(present->mode)) return core::fail(core::Error::damaged, "the root of the volume is no directory");
    return {};
  }
  meta::InodeRecord root;
  root.number = core::kRootInode;
  root.mode = S_IFDIR | 0755;
  root.uid = ::geteuid();
  root.gid = ::getegid();
  root.links = 2;
  root.accessed = root.modified = root.changed = file_time_now(state.clock);
  meta::Changes changes;
  changes.emplace_back(meta::PutInode{std::move(root)});
  return state.catalog->commit(changes);
}

/// Nothing that died while nobody looked is served.
Result<std::size_t> sweep(EngineState& state) {
  std::size_t swept = 0;
  for (;;) {
    EPHFS_TRY(const auto reaped, reap(state, state.clock.destruction_now(), kSweepBatch));
    if (reaped == 0) return swept;
    swept += reaped;
  }
}

/// Everything that is only on this machine, onto stable storage.
Result<> sync_staging(EngineState& state) {
  constexpr std::size_t kStripesMax = 100'000;
  std::vector<StripeNumber> numbers;
  for (const auto kind : {meta::StripeState::open, meta::StripeState::sealed}) {
    EPHFS_TRY(const auto stripes, state.catalog->stripes_in_state(kind, kStripesMax));
    for (const auto& stripe : stripes) numbers.push_back(stripe.number);
  }
  EPHFS_TRY_VOID(state.stripes->sync(numbers));
  return state.catalog->sync();
}

}  // namespace

EngineState::EngineState(Engine::Context context)
    : options(std::move(context.options)),
      catalog(std::move(context.catalog)),
      keys(context.keys),
      epoch_keys(std::move(context.epoch_keys)),
      peers(context.peers),
      clock(context.clock),
      executor(std::move(context.executor)),
      background(context.background ? std::move(context.background) : executor),
      unhurried(context.unhurried ? std::move(context.unhurried) : executor),
      log(std::move(context.log)),
      owner(keys.owner),
      stripes(std::move(context.stripes)),
      inodes(*catalog, options.inodes_kept),
      on_warning(std::move(context.on_warning)),
      reaper(std::make_unique<Reaper>(*this)),
      puncturer(std::make_unique<Puncturer>(*this)),
      scrubber(std::make_unique<Scrubber>(*this)),
      warner(std::make_unique<Warner>(*this)),
      maintenance(std::make_unique<Maintenance>(*this)),
      shares(std::make_unique<ShareBook>(*this)) {}

EngineState::~EngineState() = default;

Engine::Engine(std::unique_ptr<EngineState> state) : state_(std::move(state)) {}

Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::open(Context context) {
  if (!context.log) context.log = [](const std::string&) {};
  auto state = std::make_unique<EngineState>(std::move(context));
  EPHFS_TRY_VOID(ensure_root(*state));
  EPHFS_TRY(state->root, state->inodes.get(core::kRootInode));
  EPHFS_TRY(const auto last, state->catalog->last_inode());
  state->next_inode = std::max(last.value, core::kRootInode.value) + 1;
  if (!state->stripes) {
    EPHFS_TRY(state->stripes, Stripes::open({state->options, *state->catalog, state->peers, state->owner, state->clock,
                                             state->executor, nullptr, state->unhurried}));
  }
  EPHFS_TRY(const auto swept, sweep(*state));
  if (swept > 0) state->log(std::to_string(swept) + " files died while the volume was not mounted");
  EPHFS_TRY_VOID(remove_orphans(*state));
  // What died is in the catalog no longer, so nothing needs its epoch's key.
  EPHFS_TRY_VOID(state->epoch_keys->puncture(state->clock.destruction_now()));
  // Also what a killed run had dropped and not overwritten yet; what cannot be now, is when it runs.
  if (!state->catalog->scrub()) state->scrubber->notify();
  EPHFS_TRY_VOID(state->warner->resume());
  EPHFS_TRY_VOID(state->shares->load());
  return std::unique_ptr<Engine>(new Engine(std::move(state)));
}

void Engine::start(KernelCache* kernel) {
  state_->kernel = kernel;
  state_->stripes->start();
  state_->reaper->start();
  state_->puncturer->start();
  state_->scrubber->start();
  state_->warner->start();
  state_->shares->start();
  state_->maintenance->start();
}

awaitable<Result<>> Engine::stop() {
  co_await state_->shares->stop();
  co_await state_->maintenance->stop();
  const core::Boottime until = state_->clock.boot_now() + kLastFlushMax;
  Result<> flushed = co_await flush_all(*state_, until);
  Result<> synced = sync_staging(*state_);
  co_await state_->warner->stop();
  co_await state_->reaper->stop();
  co_await state_->puncturer->stop();
  co_await state_->scrubber->stop();
  co_await state_->stripes->stop();
  if (auto scrubbed = state_->catalog->scrub(); !scrubbed) {
    state_->log("overwriting deleted keys is left to the next mount: " + scrubbed.error().message());
  }
  state_->kernel = nullptr;
  if (!flushed) co_return flushed;
  co_return synced;
}

void Engine::clock_changed() {
  state_->reaper->look_again();
  state_->puncturer->look_again();
  state_->warner->look_again();
  state_->stripes->collect_soon();
  if (state_->kernel == nullptr) return;
  state_->kernel->clock_changed();
  const core::Instant now = state_->clock.now();
  for (const InodeNumber number : state_->inodes.remembered_gone(now)) state_->kernel->forget_pages(number);
  for (auto& inode : state_->inodes.all()) {
    // What the kernel was told to believe until the deadline, and pages it keeps, are over sooner than it knows.
    if (inode->lookups > 0 && inode->is_gone(now)) state_->kernel->forget_pages(inode->number);
    // One that is back has been dropped from the watch.
    watch_pages(*state_, *inode);
    const InodeNumber number = inode->number;
    inode.reset();
    state_->inodes.release(number);
  }
}

const EngineOptions& Engine::options() const {
  return state_->options;
}
core::Clock& Engine::clock() const {
  return state_->clock;
}
core::asio::any_io_executor Engine::executor() const {
  return state_->executor;
}

}  // namespace ephfs::fs
