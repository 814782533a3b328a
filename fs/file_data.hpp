// SPDX-License-Identifier: Apache-2.0
// One regular file's bytes: dirty ranges (plaintext not yet staged) over an extent map (what is in stripes),
// holes where neither is. No lock of its own: the inode's guards it, as each function says.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/bytes.hpp"
#include "core/secret.hpp"
#include "fs/plaintext.hpp"
#include "fs/stripes.hpp"
#include "meta/catalog.hpp"

namespace ephfs::fs {

/// The longest dirty run: it fills a stripe exactly.
constexpr std::uint64_t kRunBytesMax = kStripeBytes;

/// Non-overlapping runs of plaintext by offset. What is written behind a run is appended to it, up to
/// the next multiple of kRunBytesMax, so a sequential stream becomes whole stripes, also one whose larger pieces come
/// out of order. Bytes are copied in once, or twice when they came out of order.
class DirtyRanges {
 public:
  void write(std::uint64_t offset, core::ByteView bytes);
  /// Forgets [from, to): what a truncation or a hole makes meaningless.
  void erase(std::uint64_t from, std::uint64_t to);
  /// erase(), and what was there.
  [[nodiscard]] DirtyRanges take(std::uint64_t from, std::uint64_t to);
  /// Makes one run of small neighbours, in time linear in bytes(): before they are staged.
  void join_neighbours();

  /// Runs that overlap [from, to), clipped to it, in order. Valid until the next change.
  using Run = PlainRun;
  [[nodiscard]] std::vector<Run> overlapping(std::uint64_t from, std::uint64_t to) const;
  [[nodiscard]] std::vector<Run> all() const;
  /// First offset at or after `from` that lies in a run, and first that does not.
  [[nodiscard]] std::optional<std::uint64_t> next_data(std::uint64_t from) const;
  [[nodiscard]] std::uint64_t next_hole(std::uint64_t from) const;
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// What the runs take up: at most twice bytes() while nothing is erased.
  [[nodiscard]] std::uint64_t memory() const;
  /// How many runs are as long as a run gets.
  [[nodiscard]] std::size_t full_runs() const { return full_; }
  [[nodiscard]] bool empty() const { return runs_.empty(); }
  void clear();

 private:
  using Runs = std::map<std::uint64_t, PlainBytes>;  // by offset in the file; none is empty
  void join_stripe(std::uint64_t offset);
  /// The first run that ends after `offset`.
  [[nodiscard]] Runs::const_iterator first_after(std::uint64_t offset) const;

  Runs runs_;
  std::uint64_t bytes_ = 0;
  std::size_t full_ = 0;
};

/// Extent slices by offset, never overlapping. Every change gives the catalog changes that make its rows the
/// same.
class ExtentMap {
 public:
  ExtentMap() = default;
  explicit ExtentMap(std::vector<meta::ExtentRecord> extents);

  /// Slices that overlap [from, to), not clipped, in order.
  [[nodiscard]] std::vector<meta::ExtentRecord> overlapping(std::uint64_t from, std::uint64_t to) const;
  /// Lays `extent` over what is there.
  void put(const meta::ExtentRecord& extent, meta::Changes& changes);
  /// Removes [from, to); `to` may be past the end.
  void erase(std::uint64_t from, std::uint64_t to, meta::Changes& changes);

  /// The slices of a range before it is changed; restore() brings them back when the commit of the change
  /// fails. Several are restored in the reverse order.
  struct Saved {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    std::vector<meta::ExtentRecord> slices;
  };
  [[nodiscard]] Saved save(std::uint64_t from, std::uint64_t to) const;
  void restore(const Saved& saved);

  /// First offset at or after `from` that lies in an extent, and first that does not.
  [[nodiscard]] std::optional<std::uint64_t> next_data(std::uint64_t from) const;
  [[nodiscard]] std::uint64_t next_hole(std::uint64_t from) const;
  /// The stripes that slices lie in, by number; costs by their number, not by the slices'.
  [[nodiscard]] std::vector<StripeNumber> stripes() const;
  /// Bytes of this file in a stripe.
  [[nodiscard]] std::uint64_t bytes_in(StripeNumber stripe) const;
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::size_t size() const { return slices_.size(); }
  [[nodiscard]] std::vector<meta::ExtentRecord> all() const;

 private:
  using Slices = std::map<std::uint64_t, meta::ExtentRecord>;
  [[nodiscard]] Slices::const_iterator first_after(std::uint64_t offset) const;
  void insert(const meta::ExtentRecord& slice);
  Slices::iterator remove(Slices::const_iterator slice);

  Slices slices_;
  std::unordered_map<StripeNumber, std::uint64_t> stripe_bytes_;
  std::uint64_t bytes_ = 0;
};

/// What a read has still to do after the lock is let go: slices to fetch and where their bytes go.
struct ReadPlan {
  struct Part {
    meta::ExtentRecord extent;
    std::uint64_t offset;  // in the file
    std::size_t at;        // in the reader's buffer
    std::size_t length;
  };
  std::vector<Part> parts;
  std::size_t length = 0;  // bytes the read gives: less than asked at the end of the file
  core::FileId file;
  std::shared_ptr<const core::Key> key;  // the file key, held while the read goes on
};

class FileData {
  static constexpr std::size_t kUnsettledMin = 64;

 public:
  FileData(core::FileId file, core::Key key, ExtentMap extents);

  [[nodiscard]] FileCipher cipher() const { return {file_, key_.get()}; }
  [[nodiscard]] std::shared_ptr<const core::Key> key() const { return key_; }
  /// Exclusive lock: the key of what is staged from now on; nothing of the file may be staged under the old one, which
  /// is given back.
  [[nodiscard]] std::shared_ptr<const core::Key> replace_key(std::shared_ptr<const core::Key> key) {
    return std::exchange(key_, std::move(key));
  }
  [[nodiscard]] DirtyRanges& dirty() { return dirty_; }
  [[nodiscard]] const DirtyRanges& dirty() const { return dirty_; }
  [[nodiscard]] ExtentMap& extents() { return extents_; }
  [[nodiscard]] const ExtentMap& extents() const { return extents_; }

  /// Shared lock. Copies dirty bytes and zeroes holes of [offset, offset + out.size()) below `size` into
  /// `out`, and plans the rest.
  [[nodiscard]] ReadPlan plan_read(std::uint64_t offset, core::MutableByteView out, std::uint64_t size) const;
  /// Shared lock. SEEK_DATA and SEEK_HOLE below `size`; none past the last data.
  [[nodiscard]] std::optional<std::uint64_t> seek_data(std::uint64_t from, std::uint64_t size) const;
  [[nodiscard]] std::uint64_t seek_hole(std::uint64_t from, std::uint64_t size) const;
  /// Bytes that take up room: for st_blocks.
  [[nodiscard]] std::uint64_t allocated() const { return dirty_.bytes() + extents_.bytes(); }

  /// A stripe that fsync has still to make safe. One noted again since a list of them was taken has another
  /// `mark`.
  struct Unsettled {
    StripeNumber stripe;
    std::uint64_t mark;
  };
  /// Exclusive lock: bytes of the file went into the stripe.
  void note_unsettled(StripeNumber stripe);
  /// Shared lock. Those that hold bytes of the file, by number.
  [[nodiscard]] std::vector<Unsettled> unsettled() const;
  /// Exclusive lock: these are safe, unless bytes have been added since the list was taken.
  void note_settled(const std::vector<Unsettled>& settled);

 private:
  core::FileId file_;
  std::shared_ptr<const core::Key> key_;
  DirtyRanges dirty_;
  ExtentMap extents_;
  std::map<StripeNumber, std::uint64_t> unsettled_;
  std::size_t unsettled_due_ =
      kUnsettledMin;  // this many are looked through for stripes that hold nothing of the file any more
  std::uint64_t last_mark_ = 0;
};

}  // namespace ephfs::fs
