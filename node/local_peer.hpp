// SPDX-License-Identifier: Apache-2.0
// What a node does with the shards it keeps: the Peer over a ShardStore. It checks who signed what, for which node and
// until when, and signs receipts; the store below knows nothing of either.
//
// Invariants. No byte of a shard is given out at or after its lease's deadline. Only the owner that a shard is held
// under extends or ends its lease, and only before the deadline. A receipt is signed after its effect is on stable
// storage. Every shard that goes leaves a receipt ("deleted"): its trace in the store goes only after the receipt is
// kept.
//
// Threads. Any thread may call. The disk and the hashing run on the `disk` executor given (a pool of one or more
// threads, or in a simulation the one loop there is); the caller resumes on its own executor, by its limits even when
// the disk hangs. What looks first and then acts does so under the shard's own mutex, which is never held over a
// co_await.
#pragma once

#include <array>
#include <atomic>
#include <mutex>

#include "core/clock.hpp"
#include "core/signing.hpp"
#include "net/peer.hpp"
#include "node/receipt_store.hpp"
#include "node/shard_store.hpp"
#include "node/share_store.hpp"

namespace ephfs::node {

using core::awaitable;

/// What this node has done since it started.
struct PeerCounters {
  std::uint64_t stored = 0;
  std::uint64_t fetched = 0;
  std::uint64_t renewed = 0;
  std::uint64_t removed = 0;
  std::uint64_t expired = 0;  // deleted at their deadline
  std::uint64_t proven = 0;
  std::uint64_t asked = 0;    // questions of owners about their shards
  std::uint64_t refused = 0;  // calls that were not permitted
  std::uint64_t damaged = 0;  // reads that failed their check
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t shares_taken = 0;
};

class LocalPeer final : public net::Peer {
 public:
  /// All of it is used until stop() has been awaited. Without `shares` it keeps none.
  LocalPeer(ShardStore& store, ReceiptStore& receipts, core::Clock& clock, const core::Signer& signer,
            core::asio::any_io_executor disk, ShareStore* shares = nullptr);
  ~LocalPeer() override = default;
  LocalPeer(const LocalPeer&) = delete;
  LocalPeer& operator=(const LocalPeer&) = delete;

  /// Whom to tell of every deadline that enters the store, and of when a removal may be settled (the reaper). Set
  /// before the first call; called on the disk executor.
  void on_deadline(std::function<void(core::Deadline)> listener) { deadline_listener_ = std::move(listener); }

  [[nodiscard]] core::NodeId id() const override { return id_; }
  [[nodiscard]] bool reachable() const override { return !stopping_; }
  [[nodiscard]] bool is_local() const override { return true; }

  /// Beyond the seam's words: storing a shard that is held already checks the held bytes, and writes them anew when
  /// they are damaged. The tree and the file of `shard` are believed when the tree's root is the shard's id: only
  /// callers in this process set them.
  [[nodiscard]] awaitable<Result<core::Envelope>> store(core::Envelope lease, net::ShardSource shard,
                                                        net::CallLimits limits) override;
  [[nodiscard]] awaitable<Result<net::ShardRange>> fetch(net::FetchRequest request, net::CallLimits limits) override;
  /// The same lease again is no change and not a failure: an owner that missed the answer may repeat itself.
  [[nodiscard]] awaitable<Result<core::Envelope>> renew(core::Envelope lease, net::CallLimits limits) override;
  [[nodiscard]] awaitable<Result<core::Envelope>> remove(core::Envelope removal, net::CallLimits limits) override;
  /// Each leaf's path is MerkleTree::prove_range(index, 1), which core::verify_range takes.
  [[nodiscard]] awaitable<Result<net::Proof>> prove(net::Challenge challenge, net::CallLimits limits) override;
  [[nodiscard]] awaitable<Result<net::NodeStatus>> status(net::CallLimits limits) override;
  /// Receipts are kept for 30 days after the deletion, and at most ReceiptLimits::receipts of them.
  [[nodiscard]] awaitable<Result<std::vector<core::Envelope>>> deletions(net::ShardInquiry inquiry,
                                                                         net::CallLimits limits) override;
  [[nodiscard]] awaitable<Result<std::vector<net::Holding>>> holdings(net::ShardInquiry inquiry,
                                                                      net::CallLimits limits) override;
  [[nodiscard]] awaitable<Result<>> put_share(core::Envelope grant, core::SharedBytes content,
                                              net::CallLimits limits) override;
  [[nodiscard]] awaitable<Result<net::TakenShare>> take_share(net::ShareClaim claim, net::CallLimits limits) override;
  [[nodiscard]] awaitable<Result<>> drop_share(core::Envelope drop, net::CallLimits limits) override;

  /// Deletes up to `limit` shards and as many shares whose deadline has passed, earliest first, and says how many it
  /// deleted: fewer than were due only when the disk fails, whose failure it then gives. Blocks; for the disk executor.
  struct Reaped {
    core::Instant now;  // what died by this was to be deleted
    std::size_t deleted = 0;
    Result<> outcome;
  };
  [[nodiscard]] Reaped remove_expired(std::size_t limit);
  /// When there will be something to delete, or to settle.
  [[nodiscard]] core::Deadline next_deadline() const;
  /// When it is time: signs and keeps a receipt for up to `limit` shards that are gone, then drops their traces, and
  /// says how many. A crash before the end leaves traces, of which the next start makes receipts. Blocks; for the disk
  /// executor.
  [[nodiscard]] Result<std::size_t> settle_removals(std::size_t limit);
  [[nodiscard]] PeerCounters counters() const;

  /// Refuses further calls with `cancelled` and resumes when no work is left on the disk executor.
  [[nodiscard]] awaitable<void> stop();

 private:
  struct AtomicCounters {
    std::atomic<std::uint64_t> stored{0}, fetched{0}, renewed{0}, removed{0}, expired{0}, proven{0}, asked{0},
        refused{0}, damaged{0}, bytes_in{0}, bytes_out{0}, shares_taken{0}, shares_changed{0};
  };

  template <class T>
  awaitable<Result<T>> on_disk(net::CallLimits limits, std::function<Result<T>()> job);
  [[nodiscard]] std::optional<core::Failure> over(const net::CallLimits& limits) const;
  [[nodiscard]] std::mutex& mutex_of(const core::ShardId& shard) const;
  /// The lease a shard may still be served under.
  [[nodiscard]] Result<HeldLease> live_lease(const core::ShardId& shard) const;
  [[nodiscard]] core::Envelope receipt(core::ReceiptKind kind, const core::Lease& lease) const;
  [[nodiscard]] core::Failure refuse(std::string why) const;
  template <class T>
  [[nodiscard]] Result<T> counted(Result<T> result, std::atomic<std::uint64_t>& counter) const;

  [[nodiscard]] Result<core::Envelope> store_now(const core::Envelope& envelope, const net::ShardSource& shard);
  [[nodiscard]] Result<> store_again(const HeldLease& wanted, const HeldLease& held, const net::ShardSource& shard);
  [[nodiscard]] Result<> replace_lease(const HeldLease& wanted, const HeldLease& held);
  using Read = Result<net::ShardRange> (ShardStore::*)(const net::FetchRequest&) const;
  [[nodiscard]] Result<net::ShardRange> fetch_by(Read read, const net::FetchRequest& request);
  [[nodiscard]] Result<core::Envelope> renew_now(const core::Envelope& envelope);
  [[nodiscard]] Result<core::Envelope> remove_now(const core::Envelope& envelope);
  [[nodiscard]] Result<net::Proof> prove_now(const net::Challenge& challenge);
  [[nodiscard]] Result<core::OwnerId> check_inquiry(const net::ShardInquiry& inquiry, core::InquiryKind kind) const;
  [[nodiscard]] Result<std::vector<core::Envelope>> deletions_now(const net::ShardInquiry& inquiry);
  [[nodiscard]] Result<std::vector<net::Holding>> holdings_now(const net::ShardInquiry& inquiry);
  void settle_by(core::Deadline when);
  [[nodiscard]] Result<> settle(const std::vector<HeldLease>& traces);

  [[nodiscard]] Result<> put_share_now(const core::Envelope& envelope, const core::SharedBytes& content);
  [[nodiscard]] Result<net::TakenShare> take_share_now(const net::ShareClaim& claim);
  [[nodiscard]] Result<> drop_share_now(const core::Envelope& envelope);

  ShardStore& store_;
  ReceiptStore& receipts_;
  ShareStore* const shares_;
  core::Clock& clock_;
  const core::Signer& signer_;
  const core::NodeId id_;
  const core::asio::any_io_executor disk_;
  std::function<void(core::Deadline)> deadline_listener_;
  std::atomic<bool> stopping_{false};
  mutable std::array<std::mutex, 64> shard_mutexes_;
  // Held over making receipts of traces, so that none is made of a shard that has come again. Taken after a shard's
  // own.
  std::mutex settle_mutex_;
  // When traces are settled, in the form of Deadline::raw(). At once after a start, which may have found some.
  std::atomic<std::int64_t> settle_at_{0};
  mutable AtomicCounters counters_;
  core::TaskGroup jobs_;
};

}  // namespace ephfs::node
