// SPDX-License-Identifier: Apache-2.0
// Sharing a file: placing it, sealing what opens it, giving that to nodes.
#include <algorithm>

#include "fs/share_book.hpp"
#include "meta/manifest.hpp"
#include "meta/shared_file.hpp"

namespace ephfs::fs {
namespace {

using core::Error;
using core::fail;

constexpr std::size_t kAttemptsMax = 4;
/// How soon somebody who waits for a placing is told that he waits in vain.
constexpr core::Nanoseconds kLookAgain = std::chrono::milliseconds(500);

Result<std::vector<StripeNumber>> stripes_of(EngineState& state, Inode& inode) {
  const std::unique_lock lock(inode.mutex);
  if (inode.removed || inode.record.links == 0) return fail(Error::not_found);
  EPHFS_TRY_VOID(load_data(state, inode));
  return inode.data->extents().stripes();
}

/// settle(), ending soon after sharing is refused.
awaitable<Result<>> settle(EngineState& state, std::vector<StripeNumber> stripes, core::Boottime until) {
  const auto refusing = state.shares->refusing();
  for (;;) {
    const core::Boottime slice = std::min(until, state.clock.boot_now() + kLookAgain);
    auto settled = co_await state.stripes->settle(stripes, Durability::quorum, slice);
    if (settled || state.clock.boot_now() < slice || slice == until) co_return settled;
    if (refusing.stop_requested()) co_return fail(Error::cancelled, "the volume is being unmounted");
  }
}

/// Everything of the file on nodes, and the manifest of that.
awaitable<Result<meta::Manifest>> place(EngineState& state, std::shared_ptr<Inode> inode, core::Boottime until) {
  for (std::size_t attempt = 1;; ++attempt) {
    EPHFS_CO_TRY_VOID(co_await flush_waiting(state, inode, until));
    EPHFS_CO_TRY(auto stripes, stripes_of(state, *inode));
    if (!stripes.empty()) EPHFS_CO_TRY_VOID(co_await settle(state, std::move(stripes), until));
    EPHFS_CO_TRY_VOID(check_alive(state, *inode, false));
    auto manifest = meta::build_manifest(*state.catalog, inode->number, state.keys.volume);
    // Somebody wrote to it meanwhile, or it moved.
    const bool changed = !manifest && manifest.error().code == Error::busy;
    if (!changed || attempt == kAttemptsMax) co_return manifest;
  }
}

Result<Deadline> choose_end(const EngineState& state, const Inode& inode, const ShareWish& wish) {
  const Deadline own = inode.deadline();
  if (wish.ttl && wish.ttl->count() <= 0) return fail(Error::invalid_argument, "a ttl that is none");
  if (!wish.ttl && own.is_never())
    return fail(Error::invalid_argument, "the file never dies: say for how long it is shared");
  if (!wish.ttl) return own;
  const core::Instant end =
      std::min(state.clock.now() + std::min(*wish.ttl, core::kInstantMax - core::Instant{0}), core::kInstantMax);
  return std::min(own, Deadline(end));
}

/// Gives the share to as many holders as it takes, best first.
awaitable<Result<std::vector<net::Member>>> hand_out(EngineState& state, core::ShareGrant grant,
                                                     core::SharedBytes content, std::vector<ShareHolder> holders,
                                                     core::Boottime until) {
  const std::size_t wanted = grant.fetches_max > 0 ? 1 : net::kShareHoldersMax;
  std::vector<net::Member> took;
  core::Failure last = fail(Error::unreachable, "there is no node to hold the share");
  for (const auto& holder : holders) {
    if (took.size() == wanted) break;
    grant.node = holder.peer->id();
    const net::CallLimits limits{until, state.shares->refusing()};
    auto put = co_await holder.peer->put_share(core::sign_share_grant(grant, state.owner), content, limits);
    if (put) {
      took.push_back({grant.node, holder.address});
    } else {
      last = std::move(put).error();
    }
    if (state.clock.boot_now() >= until) break;
  }
  if (took.empty()) co_return fail(last.code, "no node took the share; " + last.detail);
  co_return took;
}

}  // namespace

awaitable<Result<SharedLink>> Engine::share(InodeNumber number, ShareWish wish) {
  EngineState& state = *state_;
  const core::Boottime until = state.clock.boot_now() + core::Nanoseconds(state.options.peer_timeout);
  if (state.shares->refusing().stop_requested()) co_return fail(Error::cancelled, "the volume is being unmounted");
  EPHFS_CO_TRY(const auto inode, live_inode(state, number));
  if (!inode->is_regular()) co_return fail(Error::invalid_argument, "only regular files are shared");
  if (wish.fetches_max > core::kShareFetchesMax)
    co_return fail(Error::invalid_argument, "too large a count of fetches");
  if (wish.holders.empty()) co_return fail(Error::invalid_argument, "there is no node to hold the share");
  EPHFS_CO_TRY_VOID(state.shares->check_room());
  EPHFS_CO_TRY_VOID(choose_end(state, *inode, wish));
  EPHFS_CO_TRY(const auto manifest, co_await place(state, inode, until));

  SharedLink shared;
  net::ShareLink& link = shared.link;
  EPHFS_CO_TRY(link.deadline, choose_end(state, *inode, wish));
  shared.ends_with_file = link.deadline == inode->deadline();
  link.pool = wish.pool;
  link.share = core::random_id<core::ShareId>();
  link.secret = core::random_key();
  meta::SharedFile file;
  file.name = std::move(wish.name);
  {
    const std::shared_lock lock(inode->mutex);
    if (inode->record.file != manifest.file) co_return fail(Error::stale);
    EPHFS_CO_TRY(file.key, unwrap_file_key(state, inode->record));
    file.mode = inode->record.mode;
    file.modified = inode->record.modified;
  }
  EPHFS_CO_TRY(file.manifest, meta::sign_manifest(manifest, state.owner));
  EPHFS_CO_TRY(const auto sealed, meta::seal_shared_file(file, link.secret, link.share));
  const auto content = core::SharedBytes::copy_of(sealed);

  core::ShareGrant grant;
  grant.share = link.share;
  grant.owner = *core::OwnerId::from_bytes(state.owner.public_key().view());
  grant.deadline = link.deadline;
  grant.fetches_max = wish.fetches_max;
  grant.token_hash = core::share_token_hash(core::share_token(link.secret, link.share));
  grant.content_hash = *core::Hash::from_bytes(core::sha256(content.view()).view());
  grant.content_bytes = content.size();
  EPHFS_CO_TRY(link.holders, co_await hand_out(state, grant, content, std::move(wish.holders), until));

  KeptShare kept{link.share, number, link.deadline, {}};
  for (const auto& holder : link.holders) kept.nodes.push_back(holder.id);
  EPHFS_CO_TRY_VOID(state.shares->add(std::move(kept)));
  // What was unlinked, or given less time, while it was shared: the book knew nothing of the share then.
  bool unlinked = false;
  {
    const std::shared_lock lock(inode->mutex);
    unlinked = inode->removed || inode->record.links == 0;
  }
  state.shares->deadline_changed(number, inode->deadline());
  if (unlinked) state.shares->withdraw(number);
  if (unlinked || inode->deadline() < link.deadline)
    co_return fail(Error::stale, "the file was changed while it was shared");
  co_return shared;
}

void Engine::refuse_shares() {
  state_->shares->refuse();
}

}  // namespace ephfs::fs
