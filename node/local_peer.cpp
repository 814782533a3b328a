// SPDX-License-Identifier: Apache-2.0
#include "node/local_peer.hpp"

#include <unordered_set>

namespace ephfs::node {

using core::Error;
using core::fail;

namespace {

/// What is read from memory and checked in less time than it takes to hand it to another thread.
constexpr std::uint64_t kAtOnceBytes = 64U << 10U;
/// Removals are settled together with those that follow within this.
constexpr core::Milliseconds kSettleAfter{1000};

}  // namespace

LocalPeer::LocalPeer(ShardStore& store, ReceiptStore& receipts, core::Clock& clock, const core::Signer& signer,
                     core::asio::any_io_executor disk, ShareStore* shares)
    : store_(store),
      receipts_(receipts),
      shares_(shares),
      clock_(clock),
      signer_(signer),
      id_(core::node_id_of(signer.public_key())),
      disk_(std::move(disk)) {}

std::optional<core::Failure> LocalPeer::over(const net::CallLimits& limits) const {
  if (stopping_) return fail(Error::cancelled, "the node is stopping");
  if (limits.stop.stop_requested()) return fail(Error::cancelled);
  if (clock_.boot_now() >= limits.until) return fail(Error::timed_out, "the local node's disk");
  return std::nullopt;
}

/// Runs `job` on the disk executor unless its limits are over before its turn comes. When they are over while it runs,
/// the caller goes on without it and stop() waits for it.
template <class T>
awaitable<Result<T>> LocalPeer::on_disk(net::CallLimits limits, std::function<Result<T>()> job) {
  if (auto failure = over(limits)) co_return std::move(*failure);
  const core::Mailbox<Result<T>> answer;
  std::function<awaitable<void>()> task = [this, answer, limits, job = std::move(job)]() -> awaitable<void> {
    if (auto failure = over(limits)) {
      answer.post(std::move(*failure));
    } else {
      answer.post(job());
    }
    co_return;
  };
  jobs_.spawn(disk_, std::move(task));
  std::function<void()> give_up = [answer] { answer.post(fail(Error::cancelled)); };
  const std::stop_callback<std::function<void()>> on_stop(limits.stop, std::move(give_up));
  auto result = co_await answer.receive_until(clock_, limits.until);
  if (!result) co_return fail(Error::timed_out, "the local node's disk");
  co_return std::move(*result);
}

std::mutex& LocalPeer::mutex_of(const core::ShardId& shard) const {
  return shard_mutexes_[std::hash<core::ShardId>{}(shard) % shard_mutexes_.size()];
}

Result<HeldLease> LocalPeer::live_lease(const core::ShardId& shard) const {
  auto held = store_.find(shard);
  if (!held || held->lease.deadline.passed(clock_.now())) return fail(Error::not_found, "shard " + shard.hex());
  return std::move(*held);
}

core::Envelope LocalPeer::receipt(core::ReceiptKind kind, const core::Lease& lease) const {
  core::Receipt receipt;
  receipt.kind = kind;
  receipt.shard = lease.shard;
  receipt.node = id_;
  receipt.owner = lease.owner;
  receipt.at = clock_.now();
  receipt.deadline = lease.deadline;
  receipt.bytes = lease.bytes;
  return core::sign_receipt(receipt, signer_);
}

core::Failure LocalPeer::refuse(std::string why) const {
  return fail(Error::not_permitted, std::move(why));
}

template <class T>
Result<T> LocalPeer::counted(Result<T> result, std::atomic<std::uint64_t>& counter) const {
  if (result) {
    ++counter;
  } else if (result.error().code == Error::not_permitted) {
    ++counters_.refused;
  } else if (result.error().code == Error::damaged) {
    ++counters_.damaged;
  }
  return result;
}

awaitable<Result<core::Envelope>> LocalPeer::store(core::Envelope lease, net::ShardSource shard,
                                                   net::CallLimits limits) {
  std::function<Result<core::Envelope>()> job = [this, lease = std::move(lease), shard = std::move(shard)] {
    return counted(store_now(lease, shard), counters_.stored);
  };
  return on_disk<core::Envelope>(std::move(limits), std::move(job));
}

awaitable<Result<net::ShardRange>> LocalPeer::fetch(net::FetchRequest request, net::CallLimits limits) {
  if (request.length <= kAtOnceBytes) {
    if (auto failure = over(limits)) co_return std::move(*failure);
    auto range = fetch_by(&ShardStore::try_get, request);
    if (range || range.error().code != Error::would_block) co_return counted(std::move(range), counters_.fetched);
  }
  std::function<Result<net::ShardRange>()> job = [this, request] {
    return counted(fetch_by(&ShardStore::get, request), counters_.fetched);
  };
  co_return co_await on_disk<net::ShardRange>(std::move(limits), std::move(job));
}

awaitable<Result<core::Envelope>> LocalPeer::renew(core::Envelope lease, net::CallLimits limits) {
  std::function<Result<core::Envelope>()> job = [this, lease = std::move(lease)] {
    return counted(renew_now(lease), counters_.renewed);
  };
  return on_disk<core::Envelope>(std::move(limits), std::move(job));
}

awaitable<Result<core::Envelope>> LocalPeer::remove(core::Envelope removal, net::CallLimits limits) {
  std::function<Result<core::Envelope>()> job = [this, removal = std::move(removal)] {
    return counted(remove_now(removal), counters_.removed);
  };
  return on_disk<core::Envelope>(std::move(limits), std::move(job));
}

awaitable<Result<net::Proof>> LocalPeer::prove(net::Challenge challenge, net::CallLimits limits) {
  std::function<Result<net::Proof>()> job = [this, challenge = std::move(challenge)] {
    return counted(prove_now(challenge), counters_.proven);
  };
  return on_disk<net::Proof>(std::move(limits), std::move(job));
}

awaitable<Result<net::NodeStatus>> LocalPeer::status(net::CallLimits limits) {
  if (auto failure = over(limits)) co_return std::move(*failure);
  const StoreUsage usage = store_.usage();
  net::NodeStatus status;
  status.node = id_;
  status.capacity = usage.capacity;
  status.used = usage.used;
  status.shards = usage.shards;
  status.now = clock_.confirmed_now();  // a witness vouches only for what it is certain of
  co_return status;
}

awaitable<Result<std::vector<core::Envelope>>> LocalPeer::deletions(net::ShardInquiry inquiry, net::CallLimits limits) {
  std::function<Result<std::vector<core::Envelope>>()> job = [this, inquiry = std::move(inquiry)] {
    return counted(deletions_now(inquiry), counters_.asked);
  };
  return on_disk<std::vector<core::Envelope>>(std::move(limits), std::move(job));
}

awaitable<Result<std::vector<net::Holding>>> LocalPeer::holdings(net::ShardInquiry inquiry, net::CallLimits limits) {
  std::function<Result<std::vector<net::Holding>>()> job = [this, inquiry = std::move(inquiry)] {
    return counted(holdings_now(inquiry), counters_.asked);
  };
  return on_disk<std::vector<net::Holding>>(std::move(limits), std::move(job));
}

Result<core::Envelope> LocalPeer::store_now(const core::Envelope& envelope, const net::ShardSource& shard) {
  EPHFS_TRY(const core::Lease lease, core::open_lease(envelope));
  if (lease.node != id_) return refuse("a lease for another node");
  if (shard.bytes.empty() || shard.bytes.size() > net::kShardBytesMax) {
    return fail(Error::invalid_argument, "a shard of " + std::to_string(shard.bytes.size()) + " bytes");
  }
  if (shard.bytes.size() != lease.bytes) {
    return fail(Error::damaged, "the lease is for a shard of " + std::to_string(lease.bytes) + " bytes, not " +
                                    std::to_string(shard.bytes.size()));
  }
  net::ShardSource source = shard;
  const bool known = source.tree && source.tree->root() == lease.shard &&
                     source.tree->leaves().size() == core::leaf_count(lease.bytes);
  if (!known) source = {shard.bytes, nullptr, {}};

  const std::lock_guard lock(mutex_of(lease.shard));
  const core::Instant now = clock_.now();
  if (lease.deadline.passed(now)) return refuse("a lease that has ended");
  const HeldLease wanted{lease, envelope};
  auto held = store_.find(lease.shard);
  if (held && held->lease.deadline.passed(clock_.confirmed_now())) {
    EPHFS_TRY_VOID(store_.remove(lease.shard, RemovalSync::lazy));
    ++counters_.expired;
    held.reset();
  }
  if (held) {
    EPHFS_TRY_VOID(store_again(wanted, *held, source));
  } else {
    {
      const std::lock_guard settling(settle_mutex_);
      if (const auto trace = store_.trace(lease.shard)) EPHFS_TRY_VOID(settle({*trace}));
    }
    EPHFS_TRY_VOID(store_.put(wanted, source));
  }
  counters_.bytes_in += lease.bytes;
  if (deadline_listener_) deadline_listener_(lease.deadline);
  return receipt(core::ReceiptKind::stored, lease);
}

Result<> LocalPeer::store_again(const HeldLease& wanted, const HeldLease& held, const net::ShardSource& shard) {
  const core::ShardId& id = wanted.lease.shard;
  if (!shard.tree && core::MerkleTree::of_data(shard.bytes.view()).root() != id) {
    return fail(Error::damaged, "the bytes are not shard " + id.hex());
  }
  EPHFS_TRY_VOID(replace_lease(wanted, held));
  const auto whole = store_.get({.shard = id, .offset = 0, .length = held.lease.bytes, .with_proof = true});
  if (whole) return {};
  if (whole.error().code != Error::damaged) return whole.error();
  EPHFS_TRY_VOID(store_.remove(id, RemovalSync::synced));
  return store_.put(wanted, shard);
}

/// The rules of a lease over another: the same owner, the same shard, a larger serial or the very same statement.
Result<> LocalPeer::replace_lease(const HeldLease& wanted, const HeldLease& held) {
  if (wanted.lease.owner != held.lease.owner) return refuse("the shard is another owner's");
  if (wanted.lease.bytes != held.lease.bytes) return refuse("the lease is for a shard of another length");
  if (wanted.lease.serial == held.lease.serial && wanted.lease.deadline == held.lease.deadline) return {};
  if (wanted.lease.serial <= held.lease.serial) {
    return refuse("the lease's serial " + std::to_string(wanted.lease.serial) + " is not above " +
                  std::to_string(held.lease.serial));
  }
  return store_.set_lease(wanted);
}

Result<net::ShardRange> LocalPeer::fetch_by(Read read, const net::FetchRequest& request) {
  EPHFS_TRY(const HeldLease held, live_lease(request.shard));
  EPHFS_TRY(auto range, (store_.*read)(request));
  // Reading takes time, and it may have taken the last of the shard's.
  if (held.lease.deadline.passed(clock_.now())) EPHFS_TRY_VOID(live_lease(request.shard));
  counters_.bytes_out += range.bytes.size();
  return range;
}

Result<core::Envelope> LocalPeer::renew_now(const core::Envelope& envelope) {
  EPHFS_TRY(const core::Lease lease, core::open_lease(envelope));
  if (lease.node != id_) return refuse("a lease for another node");
  const std::lock_guard lock(mutex_of(lease.shard));
  EPHFS_TRY(const HeldLease held, live_lease(lease.shard));
  EPHFS_TRY_VOID(replace_lease({lease, envelope}, held));
  if (deadline_listener_) deadline_listener_(lease.deadline);
  return receipt(core::ReceiptKind::renewed, lease);
}

Result<core::Envelope> LocalPeer::remove_now(const core::Envelope& envelope) {
  EPHFS_TRY(const core::Removal removal, core::open_removal(envelope));
  if (removal.node != id_) return refuse("a removal for another node");
  const std::lock_guard lock(mutex_of(removal.shard));
  EPHFS_TRY(const HeldLease held, live_lease(removal.shard));
  if (removal.owner != held.lease.owner) return refuse("the shard is another owner's");
  if (removal.serial < held.lease.serial) return refuse("a removal older than the lease");
  EPHFS_TRY_VOID(store_.remove(removal.shard, RemovalSync::synced));
  settle_by(core::Deadline(clock_.confirmed_now() + kSettleAfter));
  return receipt(core::ReceiptKind::deleted, held.lease);
}

Result<net::Proof> LocalPeer::prove_now(const net::Challenge& challenge) {
  if (challenge.leaves.empty() || challenge.leaves.size() > net::kChallengeLeavesMax) {
    return fail(Error::invalid_argument, "a challenge of " + std::to_string(challenge.leaves.size()) + " leaves");
  }
  EPHFS_TRY(const HeldLease held, live_lease(challenge.shard));
  net::Proof proof;
  proof.shard_bytes = held.lease.bytes;
  for (const std::uint32_t leaf : challenge.leaves) {
    if (leaf >= core::leaf_count(held.lease.bytes)) {
      return fail(Error::invalid_argument, "leaf " + std::to_string(leaf) + " of shard " + challenge.shard.hex());
    }
    const std::uint64_t begin = std::uint64_t{leaf} * core::kLeafBytes;
    EPHFS_TRY(auto range, store_.get({.shard = challenge.shard, .offset = begin, .length = 1, .with_proof = true}));
    counters_.bytes_out += range.bytes.size();
    proof.leaves.push_back({std::move(range.bytes), std::move(range.proof)});
  }
  EPHFS_TRY(const HeldLease still, live_lease(challenge.shard));
  proof.receipt = receipt(core::ReceiptKind::served, still.lease);
  return proof;
}

/// Whose question it is.
Result<core::OwnerId> LocalPeer::check_inquiry(const net::ShardInquiry& inquiry, core::InquiryKind kind) const {
  if (inquiry.shards.empty() || inquiry.shards.size() > net::kInquiryShardsMax) {
    return fail(Error::invalid_argument, "a question about " + std::to_string(inquiry.shards.size()) + " shards");
  }
  EPHFS_TRY(const core::Inquiry asked, core::open_inquiry(inquiry.order));
  if (asked.node != id_) return refuse("a question to another node");
  if (asked.kind != kind || asked.subject != core::subject_of(inquiry.shards)) {
    return refuse("another question than was signed");
  }
  return asked.owner;
}

Result<std::vector<core::Envelope>> LocalPeer::deletions_now(const net::ShardInquiry& inquiry) {
  EPHFS_TRY(const core::OwnerId owner, check_inquiry(inquiry, core::InquiryKind::deletions));
  std::vector<core::Envelope> receipts;
  std::unordered_set<core::ShardId> seen;
  for (const auto& shard : inquiry.shards) {
    if (!seen.insert(shard).second) continue;
    EPHFS_TRY(auto envelope, receipts_.find(shard));
    if (!envelope) continue;
    EPHFS_TRY(const auto receipt, core::read_receipt(*envelope));
    if (receipt.owner == owner) receipts.push_back(std::move(*envelope));
  }
  return receipts;
}

Result<std::vector<net::Holding>> LocalPeer::holdings_now(const net::ShardInquiry& inquiry) {
  EPHFS_TRY(const core::OwnerId owner, check_inquiry(inquiry, core::InquiryKind::holdings));
  if (inquiry.shards.size() != 1) return fail(Error::invalid_argument, "holdings are asked for from one shard on");
  return store_.held_for(owner, inquiry.shards.front(), net::kHoldingsMax);
}

awaitable<Result<>> LocalPeer::put_share(core::Envelope grant, core::SharedBytes content, net::CallLimits limits) {
  std::function<Result<>()> job = [this, grant = std::move(grant), content = std::move(content)] {
    return counted(put_share_now(grant, content), counters_.shares_changed);
  };
  return on_disk<void>(std::move(limits), std::move(job));
}

awaitable<Result<net::TakenShare>> LocalPeer::take_share(net::ShareClaim claim, net::CallLimits limits) {
  std::function<Result<net::TakenShare>()> job = [this, claim] {
    return counted(take_share_now(claim), counters_.shares_taken);
  };
  return on_disk<net::TakenShare>(std::move(limits), std::move(job));
}

awaitable<Result<>> LocalPeer::drop_share(core::Envelope drop, net::CallLimits limits) {
  std::function<Result<>()> job = [this, drop = std::move(drop)] {
    return counted(drop_share_now(drop), counters_.shares_changed);
  };
  return on_disk<void>(std::move(limits), std::move(job));
}

Result<> LocalPeer::put_share_now(const core::Envelope& envelope, const core::SharedBytes& content) {
  if (shares_ == nullptr) return fail(Error::not_supported, "this node keeps no shares");
  EPHFS_TRY(const auto grant, core::open_share_grant(envelope));
  if (grant.node != id_) return refuse("a share for another node");
  if (grant.deadline.passed(clock_.now())) return refuse("a share that has ended");
  if (grant.content_bytes != content.size() ||
      !std::ranges::equal(grant.content_hash.view(), core::sha256(content.view()).view())) {
    return fail(Error::damaged, "the bytes are not share " + grant.share.hex());
  }
  EPHFS_TRY_VOID(shares_->put(grant, envelope, content.view()));
  if (deadline_listener_) deadline_listener_(grant.deadline);
  return {};
}

Result<net::TakenShare> LocalPeer::take_share_now(const net::ShareClaim& claim) {
  if (shares_ == nullptr) return fail(Error::not_supported, "this node keeps no shares");
  EPHFS_TRY(auto share, shares_->take(claim, clock_.now(), clock_.boot_now()));
  // Reading and counting take time, and it may have taken the last of the share's.
  EPHFS_TRY(const auto grant, core::open_share_grant(share.grant));
  if (grant.deadline.passed(clock_.now())) return fail(Error::not_found, "share " + claim.share.hex());
  return share;
}

Result<> LocalPeer::drop_share_now(const core::Envelope& envelope) {
  if (shares_ == nullptr) return fail(Error::not_supported, "this node keeps no shares");
  EPHFS_TRY(const auto drop, core::open_share_drop(envelope));
  if (drop.node != id_) return refuse("an order for another node");
  return shares_->drop(drop);
}

LocalPeer::Reaped LocalPeer::remove_expired(std::size_t limit) {
  Reaped reaped;
  const core::Instant now = reaped.now = clock_.destruction_now();
  if (shares_ != nullptr) {
    auto ended = shares_->remove_expired(now, limit);
    reaped.deleted = ended.deleted;
    reaped.outcome = std::move(ended.outcome);
  }
  for (const auto& shard : store_.expired(now, limit)) {
    const std::lock_guard lock(mutex_of(shard));
    // Since the list was made its owner may have removed it, or stored it anew.
    const auto held = store_.find(shard);
    if (!held || !held->lease.deadline.passed(now)) continue;
    if (auto removed = store_.remove(shard, RemovalSync::lazy); !removed) {
      reaped.outcome = std::move(removed).error();
      continue;
    }
    settle_by(core::Deadline(clock_.confirmed_now()));
    ++reaped.deleted;
    ++counters_.expired;
  }
  return reaped;
}

Result<std::size_t> LocalPeer::settle_removals(std::size_t limit) {
  const std::lock_guard lock(settle_mutex_);
  if (!core::Deadline::from_raw(settle_at_).passed(clock_.confirmed_now())) return std::size_t{0};
  // Before the list is made: who removes something after that sets it again.
  settle_at_ = core::Deadline::never().raw();
  const auto traces = store_.traces(limit);
  const auto settled = settle(traces);
  if (!settled || traces.size() == limit) settle_by(core::Deadline(clock_.confirmed_now()));
  if (!settled) return settled.error();
  return traces.size();
}

core::Deadline LocalPeer::next_deadline() const {
  const core::Deadline next = std::min(store_.next_deadline(), core::Deadline::from_raw(settle_at_));
  return shares_ == nullptr ? next : std::min(next, shares_->next_deadline());
}

void LocalPeer::settle_by(core::Deadline when) {
  std::int64_t planned = settle_at_;
  while (when.raw() < planned) {
    if (!settle_at_.compare_exchange_weak(planned, when.raw())) continue;
    if (deadline_listener_) deadline_listener_(when);
    return;
  }
}

/// Settle mutex held.
Result<> LocalPeer::settle(const std::vector<HeldLease>& traces) {
  if (traces.empty()) return {};
  std::vector<core::ShardId> shards;
  shards.reserve(traces.size());
  for (const auto& trace : traces) shards.push_back(trace.lease.shard);
  EPHFS_TRY_VOID(store_.sync_removals(shards));
  std::vector<KeptReceipt> receipts;
  receipts.reserve(traces.size());
  for (const auto& trace : traces) {
    auto envelope = receipt(core::ReceiptKind::deleted, trace.lease);
    EPHFS_TRY(const auto said, core::read_receipt(envelope));
    receipts.push_back({said, std::move(envelope)});
  }
  EPHFS_TRY_VOID(receipts_.append(receipts));
  return store_.forget(shards);
}

PeerCounters LocalPeer::counters() const {
  const AtomicCounters& now = counters_;
  return {.stored = now.stored,
          .fetched = now.fetched,
          .renewed = now.renewed,
          .removed = now.removed,
          .expired = now.expired,
          .proven = now.proven,
          .asked = now.asked,
          .refused = now.refused,
          .damaged = now.damaged,
          .bytes_in = now.bytes_in,
          .bytes_out = now.bytes_out,
          .shares_taken = now.shares_taken};
}

awaitable<void> LocalPeer::stop() {
  stopping_ = true;
  co_await jobs_.join();
}

}  // namespace ephfs::node
