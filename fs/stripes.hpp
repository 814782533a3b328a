// SPDX-License-Identifier: Apache-2.0
// The volume's stripes: a log to which extents are appended, encrypted, in staging; sealed, coded into k + m shards and
// placed on as many different nodes; read back from staging, the ciphertext cache or the nodes; deleted when nothing in
// them lives. This is the whole data path below a file's extent map, and it knows nothing of names or of FUSE.
//
// Order of truth: ciphertext reaches the staging file first, then the caller commits the extents (with the changes that
// stage() gave), then it lets go of the pins; only then can the stripe be sealed. So a stripe the catalog knows always
// has its bytes, and a sealed stripe with no live byte is truly dead. A stripe is appended to by the run of the daemon
// that opened it only: what a crash may have left behind the last committed extent is never written over under the same
// key and place. Thread-safe. Calls without `awaitable` never wait for the network.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/async.hpp"
#include "core/clock.hpp"
#include "core/secret.hpp"
#include "core/signing.hpp"
#include "fs/options.hpp"
#include "meta/catalog.hpp"
#include "net/peer.hpp"

namespace ephfs::fs {

using core::awaitable;
using core::Deadline;
using core::InodeNumber;
using core::Result;
using core::StripeNumber;

/// The file an extent belongs to, as far as encrypting it goes. `key` outlives the call.
struct FileCipher {
  core::FileId file;
  const core::Key* key = nullptr;
};

/// Plaintext of a file, from `offset` on.
struct PlainRun {
  std::uint64_t offset = 0;
  core::ByteView bytes;
  [[nodiscard]] std::uint64_t end() const { return offset + bytes.size(); }
};

struct StageRequest {
  InodeNumber inode;
  FileCipher cipher;
  Deadline deadline;
  Milliseconds ttl{0};                   // how wide the deadline's bucket may be (1/64 of it)
  std::optional<core::Profile> profile;  // none: the volume's
  std::vector<PlainRun> runs;            // none is empty
  bool synced_soon = false;              // somebody waits for it to be safe
};

/// Keeps a stripe from being sealed until the extents in it are committed. Movable; destroying lets go, before the
/// Stripes it came from are destroyed.
class StripePins {
 public:
  class Pin {
   public:
    virtual ~Pin() = default;
    /// The catalog keeps the bytes that were staged with it, so their stripe need not be synced for them.
    virtual void kept() = 0;
  };

  StripePins() = default;
  explicit StripePins(std::shared_ptr<Pin> held) { held_.push_back(std::move(held)); }
  void merge(StripePins other) {
    for (auto& pin : other.held_) held_.push_back(std::move(pin));
  }
  void kept() {
    for (const auto& pin : held_) pin->kept();
  }

 private:
  std::vector<std::shared_ptr<Pin>> held_;
};

/// What stage() did: extents to be committed together with `changes` (the stripes' own records), then pins let go.
/// Where there is `ciphertext`, all that was staged is in it, and it is worth giving to Catalog::commit_keeping().
struct Staged {
  std::vector<meta::ExtentRecord> extents;
  meta::Changes changes;
  std::vector<meta::StagedBytes> ciphertext;
  StripePins pins;
};

/// How a stripe fares, for user.ephfs.state, .health and .placement.
struct StripeHealth {
  meta::StripeRecord stripe;
  std::vector<meta::PlacementRecord> placements;
  bool local = false;      // all of its ciphertext is on this disk
  unsigned reachable = 0;  // stored shards on nodes that answer
};

struct StripeCounters {
  std::uint64_t staged_bytes = 0;  // not yet placed
  std::uint64_t cached_bytes = 0;
  std::uint64_t open_stripes = 0, sealed_stripes = 0;
  std::uint64_t shards_owed = 0;
  std::uint64_t removals_owed = 0;
  std::string last_error;  // of placing; empty when the last attempt went well
};

class Stripes {
 public:
  struct Context {
    const EngineOptions& options;
    meta::Catalog& catalog;
    const net::PeerDirectory& peers;
    const core::Signer& owner;  // signs leases and removals
    core::Clock& clock;
    core::asio::any_io_executor executor;            // where placing, collecting and prefetching run
    std::function<void(std::string)> log = nullptr;  // one line, for the administrator; none: the program's log
    core::asio::any_io_executor unhurried = {};      // where stripes are coded that nobody waits for; none: `executor`
  };
  /// Opens staging and cache below the volume directory and brings them in line with the catalog: stripes left open are
  /// sealed at their last committed extent, files of no known stripe are deleted, cached files are counted.
  [[nodiscard]] static Result<std::unique_ptr<Stripes>> open(Context context);
  virtual ~Stripes() = default;

  /// Starts the background tasks: sealing by age, placing in order of age, retrying owed shards and removals, deleting
  /// dead stripes, keeping the cache within its limit. None of them wakes while there is nothing to do.
  virtual void start() = 0;
  /// Ends them, within peer_timeout at most and usually at once; what is staged stays staged.
  [[nodiscard]] virtual awaitable<void> stop() = 0;

  /// Encrypts bytes and appends them to the open stripe of their deadline bucket (or, by whole stripes, to stripes the
  /// file has to itself): all of the request, or nothing. A run may become several extents. would_block when staging is
  /// full: wait for room(). no_space when the disk is; nothing is left to commit then.
  [[nodiscard]] virtual Result<Staged> stage(const StageRequest& request) = 0;
  /// Resumes when there is room in staging; timed_out at `until`, with the reason placing gives.
  [[nodiscard]] virtual awaitable<Result<>> room(core::Boottime until) = 0;

  /// Plaintext [offset, offset + out.size()) of the file, which lies within `extent`'s slice. would_block when any of
  /// it is only with other nodes. damaged names the stripe; not_found when the stripe is no more (the caller's extent
  /// is old: look again).
  [[nodiscard]] virtual Result<> try_read(const meta::ExtentRecord& extent, FileCipher cipher, std::uint64_t offset,
                                          core::MutableByteView out) = 0;
  /// The same, asking the nodes: k of k + m and a hedge, restoring what is missing, blaming who lies. `sequential` lets
  /// it fetch and cache the whole stripe. io when fewer than k shards answer before `limits`.
  [[nodiscard]] virtual awaitable<Result<>> read(meta::ExtentRecord extent, FileCipher cipher, std::uint64_t offset,
                                                 core::MutableByteView out, bool sequential,
                                                 net::CallLimits limits) = 0;
  /// Brings a stripe into the cache in the background; does nothing when it is here or on its way, or too much is.
  virtual void prefetch(StripeNumber stripe) = 0;

  /// Makes these stripes' ciphertext survive loss of power of this machine (those still in staging).
  [[nodiscard]] virtual Result<> sync(const std::vector<StripeNumber>& stripes) = 0;
  /// Seals these stripes and resumes when each is as safe as `durability` says; the failure of placing (io, no_space,
  /// quota_exceeded) otherwise, at `until` at the latest.
  [[nodiscard]] virtual awaitable<Result<>> settle(std::vector<StripeNumber> stripes, Durability durability,
                                                   core::Boottime until) = 0;

  /// Gives a stripe another deadline: leases are renewed (or, past due, the shards removed) in the background.
  [[nodiscard]] virtual Result<> set_deadline(StripeNumber stripe, Deadline deadline) = 0;
  /// Something died: look for dead stripes soon.
  virtual void collect_soon() = 0;
  [[nodiscard]] virtual Result<StripeHealth> health(StripeNumber stripe) const = 0;
  [[nodiscard]] virtual StripeCounters counters() const = 0;
};

/// The bucket a deadline falls in: every deadline in it is at most `width` before `end`.
struct DeadlineBucket {
  Deadline end;        // exclusive end: the latest a stripe of this bucket may be needed
  Milliseconds width;  // 1/64 of the ttl rounded down to a power of two ms, at most an hour, at least 1 ms
};
[[nodiscard]] DeadlineBucket bucket_of(Deadline deadline, Milliseconds ttl);

}  // namespace ephfs::fs
