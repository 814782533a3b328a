// SPDX-License-Identifier: Apache-2.0
// The log of stripes that are in staging: open ones, one for each deadline bucket and profile (and one more for each
// file that is written as a stream), to which extents are appended; closing ones, which take nothing more and wait for
// their pins; sealed ones, which wait to be placed.
//
// Invariants. A place in a stripe is reserved once, before its bytes are encrypted, and never given again: not after a
// failed write either (the stripe then takes nothing more). An open stripe's record is the same whoever commits it and
// in whatever order: its length is kStripeCapacity, its deadline the bucket's end; both become exact when it is sealed,
// and after a crash are found from the extents that were committed. A stripe is sealed only when no pin is held.
//
// Threads. Any; `mutex_` guards all state of all staged stripes, not their files' bytes. Sealing is one task.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>

#include "core/buffer_pool.hpp"
#include "fs/extent_codec.hpp"
#include "fs/stripe_files.hpp"
#include "fs/stripe_table.hpp"
#include "fs/stripes.hpp"
#include "fs/wake.hpp"

namespace ephfs::fs {

using core::BufferPool;
using core::shared_part;

/// Extents are encrypted and decrypted this much at a time: so many sealed blocks.
constexpr std::uint64_t kWindowBytes = 64 * kSealedBlockBytes;

/// A stripe in staging, as readers and the placer see it.
struct StagedView {
  meta::StripeRecord record;
  SharedFile file;               // null when damaged
  core::SharedBytes ciphertext;  // all of it, padded, when it is still in memory
  bool open = false;             // not sealed yet
  bool damaged = false;          // recovery found less than was committed
};

class StripeLog {
 public:
  struct Context {
    const EngineOptions& options;
    meta::Catalog& catalog;
    const net::PeerDirectory& peers;
    core::Clock& clock;
    StripeFiles& files;
    StripeTable& table;
    BufferPool& buffers;  // of stripe size
    BufferPool& scratch;  // of kWindowBytes, sealed
    std::function<void(std::string)> log;
    std::function<void(StripeNumber)> on_sealed;  // from the sealing task and recover(), no lock held
  };
  explicit StripeLog(Context context);

  /// Brings staging in line with the catalog. Before anything else.
  [[nodiscard]] Result<> recover();

  [[nodiscard]] Result<Staged> stage(const StageRequest& request);
  /// None when the stripe is not in staging.
  [[nodiscard]] std::optional<StagedView> find(StripeNumber number);
  /// Its ciphertext, as long as the stripe is (padding included once it is sealed).
  [[nodiscard]] Result<core::SharedBytes> load(const StagedView& view);
  /// fdatasync of those of `stripes` that are in staging, and of their names, where the catalog does not keep all that
  /// was staged since the last time.
  [[nodiscard]] Result<> sync(const std::vector<StripeNumber>& stripes);
  /// The same of everything in staging that is not damaged.
  [[nodiscard]] Result<> sync_all();
  /// Seals the stripe as soon as its pins are gone.
  void close(StripeNumber number);
  /// Whether it was here and not sealed yet: then its deadline is noted and committed when it is sealed.
  [[nodiscard]] bool set_open_deadline(StripeNumber number, Deadline deadline);
  void set_sealed_deadline(StripeNumber number, Deadline deadline);
  /// It is placed: the staged file becomes a cached one.
  void placed(StripeNumber number, const meta::StripeRecord& record);
  /// It is no more: the staged file is deleted.
  void discard(StripeNumber number);

  [[nodiscard]] bool has_room() const;
  [[nodiscard]] Broadcast& changes() { return changed_; }
  /// Seals what is due, until `stop`; then resumes.
  [[nodiscard]] awaitable<void> run(std::stop_token stop);
  void wake() { wake_.notify(); }
  struct Counts {
    std::uint64_t bytes = 0, open = 0, sealed = 0;
  };
  [[nodiscard]] Counts counts() const;

 private:
  enum class Phase : std::uint8_t { open, closing, sealing, sealed };
  struct Bucket {
    Deadline end;
    Milliseconds width{0};
    core::Profile profile;
    InodeNumber stream{};  // the file that has its stripes to itself; zero: files share them
    friend auto operator<=>(const Bucket&, const Bucket&) = default;
  };
  struct Entry {
    Bucket bucket;
    meta::StripeRecord record;  // the open form until it is sealed
    Phase phase = Phase::open;
    SharedFile file;                       // null: opened when needed
    std::shared_ptr<core::Buffer> memory;  // of a stream's open stripe: what is written to the file, for placing
    core::SharedBytes ciphertext;          // the same once it is sealed
    std::uint64_t appended = 0;
    std::uint64_t loose = 0;   // counts what was written to the file and is not kept in the catalog
    std::uint64_t synced = 0;  // as `loose` was when the file was last synced
    unsigned pins = 0;
    Deadline latest = Deadline::from_raw(0);
    core::Boottime seal_at;
    bool damaged = false;
    bool complained = false;  // that it cannot be sealed
  };
  using EntryPtr = std::shared_ptr<Entry>;
  struct Piece {
    EntryPtr entry;
    std::uint64_t stripe_offset = 0;
    std::uint64_t file_offset = 0;
    core::ByteView plain;
    std::shared_ptr<core::Buffer> memory;  // the stripe's, when it has one
  };
  class Pins;

  [[nodiscard]] Result<> reserve_locked(const StageRequest& request, const Bucket& bucket, std::vector<Piece>& pieces);
  [[nodiscard]] Result<EntryPtr> stripe_with_room_locked(const Bucket& bucket, std::uint64_t bytes);
  [[nodiscard]] Result<EntryPtr> open_stripe_locked(const Bucket& bucket);
  /// Into `copy` as well, when there is one.
  [[nodiscard]] Result<> write_pieces(std::span<const Piece> pieces, const FileCipher& cipher, meta::StagedBytes* copy);
  [[nodiscard]] bool is_worth_keeping_locked(const StageRequest& request, const std::vector<EntryPtr>& entries) const;
  void close_locked(const EntryPtr& entry);
  void unpin(const std::vector<EntryPtr>& entries, bool is_loose);
  void note_loose(const std::vector<EntryPtr>& entries);
  [[nodiscard]] std::optional<core::Boottime> seal_due();
  [[nodiscard]] Result<> seal(const EntryPtr& entry);
  /// Fills the stripe from `at` to its padded length.
  [[nodiscard]] Result<> pad(const meta::StripeRecord& record, const core::FileDescriptor& file, core::Buffer* memory,
                             std::uint64_t at);
  void erase_locked(const EntryPtr& entry);

  [[nodiscard]] Result<> recover_open(const meta::StripeRecord& record);
  [[nodiscard]] Result<> recover_sealed(const meta::StripeRecord& record);
  [[nodiscard]] Result<bool> holds_extents(const meta::StripeRecord& record, std::uint64_t size) const;
  [[nodiscard]] Result<Deadline> last_deadline(const std::vector<meta::ExtentRecord>& extents) const;
  void insert_sealed(const meta::StripeRecord& record, bool damaged);
  [[nodiscard]] Result<> recover_files();

  const Context context_;
  Wake wake_;
  Broadcast changed_;  // a stripe left staging, or was sealed

  mutable std::mutex mutex_;  // guards what follows
  std::map<StripeNumber, EntryPtr> entries_;
  std::map<Bucket, EntryPtr> open_;
  std::set<StripeNumber> closing_;  // unpinned ones among them can be sealed
  std::int64_t next_number_ = 1;
  std::uint64_t staged_bytes_ = 0;
  std::uint64_t refused_bytes_ = 1;         // what the last one asked for who was refused
  std::size_t sealed_files_open_ = 0;       // of sealed entries: at most kSealedFilesOpen
  std::optional<core::Boottime> retry_at_;  // after a seal that failed
};

}  // namespace ephfs::fs
