// SPDX-License-Identifier: Apache-2.0
// A file's bytes in memory against the simplest thing that could be right: an array of bytes.
#include "fs/file_data.hpp"

#include <limits>

#include "tests/support/seeded.hpp"

namespace ephfs::fs {
namespace {

using ephfs::testing::Random;

constexpr std::uint64_t kEnd = std::numeric_limits<std::uint64_t>::max();
constexpr InodeNumber kInode{7};

core::Bytes filled(std::size_t size, int value) {
  return core::Bytes(size, static_cast<std::byte>(value));
}

core::Bytes gathered(const DirtyRanges& dirty) {
  core::Bytes bytes;
  for (const auto& run : dirty.all()) bytes.insert(bytes.end(), run.bytes.begin(), run.bytes.end());
  return bytes;
}

TEST(DirtyRanges, SequentialWritesFillWholeStripes) {
  DirtyRanges dirty;
  constexpr std::size_t kWrite = 96U << 10U;  // not a divisor of a stripe
  constexpr std::size_t kWrites = 100;
  for (std::size_t i = 0; i < kWrites; ++i) dirty.write(i * kWrite, filled(kWrite, static_cast<int>(i)));
  const auto runs = dirty.all();
  ASSERT_EQ(runs.size(), kWrites * kWrite / kRunBytesMax + 1);
  EXPECT_EQ(runs[0].bytes.size(), kRunBytesMax);
  EXPECT_EQ(runs[1].offset, kRunBytesMax);
  EXPECT_EQ(runs[1].bytes.size(), kRunBytesMax);
  const auto bytes = gathered(dirty);
  for (std::size_t i = 0; i < kWrites; ++i) EXPECT_EQ(bytes[i * kWrite + i], static_cast<std::byte>(i));
}

TEST(DirtyRanges, NeighboursWrittenBackwardsBecomeOneRun) {
  DirtyRanges dirty;
  for (std::uint64_t i = 50; i-- > 0;) dirty.write(1000 + i * 10, filled(10, static_cast<int>(i)));
  EXPECT_EQ(dirty.all().size(), 50U);
  dirty.write(5000, filled(5, 99));
  dirty.join_neighbours();
  const auto runs = dirty.all();
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[0].offset, 1000U);
  EXPECT_EQ(runs[0].bytes.size(), 500U);
  EXPECT_EQ(runs[0].bytes[499], std::byte{49});
  EXPECT_EQ(dirty.bytes(), 505U);
}

TEST(DirtyRanges, NeighboursAreNotJoinedPastAStripe) {
  DirtyRanges dirty;
  dirty.write(kRunBytesMax - 1, filled(2, 2));
  dirty.write(0, filled(kRunBytesMax - 1, 1));
  dirty.join_neighbours();
  EXPECT_EQ(dirty.all().size(), 2U);
  EXPECT_EQ(dirty.bytes(), kRunBytesMax + 1);
}

TEST(DirtyRanges, PiecesThatComeOutOfOrderBecomeWholeStripes) {
  Random random;
  EPHFS_TRACE_SEED(random);
  constexpr std::size_t kPiece = 512U << 10U;
  constexpr std::size_t kPieces = 64;
  constexpr std::size_t kUnderWay = 6;
  DirtyRanges dirty;
  std::vector<std::size_t> waiting;
  std::size_t next = 0;
  while (next < kPieces || !waiting.empty()) {
    while (next < kPieces && waiting.size() < kUnderWay) waiting.push_back(next++);
    const auto turn = static_cast<std::ptrdiff_t>(random.below(waiting.size()));
    const std::size_t piece = waiting[static_cast<std::size_t>(turn)];
    waiting.erase(waiting.begin() + turn);
    dirty.write(piece * kPiece, filled(kPiece, static_cast<int>(piece)));
    std::size_t full = 0;
    for (const auto& run : dirty.all()) full += run.bytes.size() == kRunBytesMax ? 1 : 0;
    ASSERT_EQ(dirty.full_runs(), full);
    ASSERT_LE(dirty.memory(), 2 * dirty.bytes());
  }
  EXPECT_EQ(dirty.bytes(), kPieces * kPiece);
  const auto bytes = gathered(dirty);
  for (std::size_t i = 0; i < kPieces; ++i) ASSERT_EQ(bytes[i * kPiece + i], static_cast<std::byte>(i));
  EXPECT_EQ(dirty.full_runs(), kPieces * kPiece / kRunBytesMax);
  dirty.erase(kRunBytesMax / 2, kPieces * kPiece - kRunBytesMax / 2);
  EXPECT_EQ(dirty.full_runs(), 0U);
  EXPECT_EQ(dirty.bytes(), kRunBytesMax);
}

TEST(DirtyRanges, TakingGivesWhatIsErased) {
  DirtyRanges dirty;
  dirty.write(0, filled(10, 1));
  dirty.write(20, filled(10, 2));
  const auto taken = dirty.take(5, 25);
  EXPECT_EQ(taken.bytes(), 10U);
  EXPECT_EQ(dirty.bytes(), 10U);
  for (const auto& run : taken.all()) dirty.write(run.offset, run.bytes);
  EXPECT_EQ(gathered(dirty), gathered([] {
              DirtyRanges whole;
              whole.write(0, filled(10, 1));
              whole.write(20, filled(10, 2));
              return whole;
            }()));
}

/// A file's dirty bytes as an array: which are dirty, and what they are.
struct DirtyOracle {
  std::vector<bool> is_dirty;
  core::Bytes bytes;

  explicit DirtyOracle(std::size_t size) : is_dirty(size), bytes(size) {}
  void write(std::size_t offset, core::ByteView written) {
    std::copy(written.begin(), written.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    std::fill_n(is_dirty.begin() + static_cast<std::ptrdiff_t>(offset), written.size(), true);
  }
  void erase(std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < std::min(to, bytes.size()); ++i) {
      is_dirty[i] = false;
      bytes[i] = std::byte{0};
    }
  }
  void expect_same(const DirtyRanges& dirty, std::size_t from, std::size_t to) const {
    std::vector<bool> seen(bytes.size());
    std::uint64_t last_end = 0;
    for (const auto& run : dirty.overlapping(from, to)) {
      ASSERT_GE(run.offset, std::max<std::uint64_t>(from, last_end));
      ASSERT_LE(run.end(), to);
      ASSERT_FALSE(run.bytes.empty());
      last_end = run.end();
      for (std::size_t i = 0; i < run.bytes.size(); ++i) {
        ASSERT_EQ(run.bytes[i], bytes[run.offset + i]) << "at " << run.offset + i;
        seen[run.offset + i] = true;
      }
    }
    for (std::size_t i = from; i < std::min(to, bytes.size()); ++i) ASSERT_EQ(seen[i], is_dirty[i]) << "at " << i;
  }
};

TEST(DirtyRanges, AgreeWithAnArray) {
  Random random;
  EPHFS_TRACE_SEED(random);
  constexpr std::size_t kSize = 3000;
  DirtyOracle oracle(kSize);
  DirtyRanges dirty;
  for (int step = 0; step < 100'000; ++step) {
    const auto from = random.below(kSize);
    const auto length = random.between(1, std::min<std::uint64_t>(kSize - from, random.chance(20) ? kSize : 60));
    switch (random.below(5)) {
      case 0:
        dirty.erase(from, from + length);
        oracle.erase(from, from + length);
        break;
      case 1:
        if (random.chance(50)) dirty.join_neighbours();
        if (random.chance(200)) {
          dirty.erase(from, kEnd);
          oracle.erase(from, kSize);
        }
        break;
      default: {
        const auto bytes = random.bytes(length);
        dirty.write(from, bytes);
        oracle.write(from, bytes);
      }
    }
    oracle.expect_same(dirty, from, std::min<std::uint64_t>(kSize, from + length + 5));
    if (HasFatalFailure()) FAIL() << "step " << step;
  }
  oracle.expect_same(dirty, 0, kSize);
  EXPECT_EQ(dirty.bytes(),
            static_cast<std::uint64_t>(std::count(oracle.is_dirty.begin(), oracle.is_dirty.end(), true)));
}

/// The catalog's table of extents, as far as changes go.
class ExtentTable {
 public:
  void apply(const meta::Changes& changes) {
    for (const auto& change : changes) {
      if (const auto* put = std::get_if<meta::PutExtent>(&change)) {
        rows_.insert_or_assign(put->extent.offset, put->extent);
      } else if (const auto* drop = std::get_if<meta::DropExtent>(&change)) {
        EXPECT_EQ(drop->inode, kInode);
        EXPECT_EQ(rows_.erase(drop->offset), 1U) << "a row is dropped once, at " << drop->offset;
      } else {
        ADD_FAILURE() << "an extent map changes extents only";
      }
    }
  }
  [[nodiscard]] std::vector<meta::ExtentRecord> all() const {
    std::vector<meta::ExtentRecord> list;
    for (const auto& [offset, extent] : rows_) list.push_back(extent);
    return list;
  }

 private:
  std::map<std::uint64_t, meta::ExtentRecord> rows_;
};

meta::ExtentRecord extent_at(std::uint64_t offset, std::uint64_t length, std::int64_t stripe,
                             std::uint64_t stripe_offset = 0) {
  return {kInode, offset, length, StripeNumber{stripe}, stripe_offset, offset, length};
}

/// Which extent, by the stripe offset that names it, holds each byte: 0 for none.
struct ExtentOracle {
  std::vector<std::uint64_t> owner;

  void expect_same(const ExtentMap& map) const {
    std::uint64_t total = 0;
    std::vector<std::uint64_t> seen(owner.size());
    std::map<StripeNumber, std::uint64_t> in_stripe;
    for (const auto& slice : map.all()) {
      ASSERT_GT(slice.length, 0U);
      ASSERT_GE(slice.offset, slice.origin_offset);
      ASSERT_LE(slice.offset + slice.length, slice.origin_offset + slice.origin_length);
      for (std::uint64_t i = slice.offset; i < slice.offset + slice.length; ++i) {
        ASSERT_EQ(seen[i], 0U) << "two slices at " << i;
        seen[i] = slice.stripe_offset;
      }
      total += slice.length;
      in_stripe[slice.stripe] += slice.length;
    }
    ASSERT_EQ(seen, owner);
    ASSERT_EQ(map.bytes(), total);
    std::vector<StripeNumber> stripes;
    for (const auto& [stripe, bytes] : in_stripe) {
      stripes.push_back(stripe);
      ASSERT_EQ(map.bytes_in(stripe), bytes);
    }
    ASSERT_EQ(map.stripes(), stripes);
  }
};

TEST(ExtentMap, ChangesKeepTheCatalogTheSame) {
  Random random;
  EPHFS_TRACE_SEED(random);
  constexpr std::uint64_t kSize = 2000;
  ExtentOracle oracle{std::vector<std::uint64_t>(kSize)};
  ExtentMap map;
  ExtentTable table;
  for (int step = 1; step <= 100'000; ++step) {
    const auto from = random.below(kSize);
    const auto length = random.between(1, std::min<std::uint64_t>(kSize - from, random.chance(20) ? kSize : 40));
    const std::uint64_t to = random.chance(300) ? kEnd : from + length;
    const bool erases = to == kEnd || random.chance(4);
    const auto name = static_cast<std::uint64_t>(step);
    const auto before = map.all();
    const auto saved = map.save(from, to);
    meta::Changes changes;
    if (erases) {
      map.erase(from, to, changes);
    } else {
      map.put(extent_at(from, length, static_cast<std::int64_t>(random.below(9)), name), changes);
    }
    if (random.chance(5)) {
      // As after a commit that failed.
      map.restore(saved);
      ASSERT_EQ(map.all(), before) << "step " << step;
      continue;
    }
    table.apply(changes);
    std::fill(oracle.owner.begin() + static_cast<std::ptrdiff_t>(from),
              oracle.owner.begin() + static_cast<std::ptrdiff_t>(std::min(to, kSize)), erases ? 0 : name);
    if (step % 50 == 0) {
      oracle.expect_same(map);
      ASSERT_EQ(map.all(), table.all());
      if (HasFatalFailure()) FAIL() << "step " << step;
    }
  }
}

TEST(ExtentMap, FindsDataAndHoles) {
  const ExtentMap map({extent_at(10, 10, 1), extent_at(20, 5, 2), extent_at(40, 10, 1)});
  EXPECT_EQ(map.next_data(0), 10U);
  EXPECT_EQ(map.next_data(15), 15U);
  EXPECT_EQ(map.next_data(25), 40U);
  EXPECT_EQ(map.next_data(50), std::nullopt);
  EXPECT_EQ(map.next_hole(0), 0U);
  EXPECT_EQ(map.next_hole(12), 25U);
  EXPECT_EQ(map.next_hole(49), 50U);
  EXPECT_EQ(map.bytes_in(StripeNumber{1}), 20U);
  EXPECT_EQ(map.bytes_in(StripeNumber{3}), 0U);
}

FileData file_of(std::vector<meta::ExtentRecord> extents) {
  return {core::FileId{}, core::Key::zeroed(), ExtentMap(std::move(extents))};
}

TEST(FileData, ReadsDirtyBytesOverExtentsOverHoles) {
  auto data = file_of({extent_at(10, 20, 1), extent_at(40, 10, 2)});
  data.dirty().write(25, filled(10, 7));
  auto out = filled(60, 9);
  const auto plan = data.plan_read(5, out, 55);
  EXPECT_EQ(plan.length, 50U);
  ASSERT_EQ(plan.parts.size(), 2U);
  EXPECT_EQ(plan.parts[0].offset, 10U);
  EXPECT_EQ(plan.parts[0].at, 5U);
  EXPECT_EQ(plan.parts[0].length, 15U);
  EXPECT_EQ(plan.parts[1].offset, 40U);
  EXPECT_EQ(plan.parts[1].length, 10U);
  EXPECT_EQ(plan.parts[1].extent, extent_at(40, 10, 2));
  auto expected = filled(60, 9);
  const auto fill = [&](std::size_t from, std::size_t to, int value) {
    std::fill(expected.begin() + static_cast<std::ptrdiff_t>(from), expected.begin() + static_cast<std::ptrdiff_t>(to),
              static_cast<std::byte>(value));
  };
  fill(0, 5, 0);
  fill(20, 30, 7);
  fill(30, 35, 0);
  fill(45, 50, 0);
  EXPECT_EQ(out, expected);
}

TEST(FileData, ReadsNothingPastTheEnd) {
  const auto data = file_of({extent_at(0, 10, 1)});
  auto out = filled(4, 9);
  EXPECT_EQ(data.plan_read(10, out, 10).length, 0U);
  EXPECT_EQ(data.plan_read(8, out, 10).length, 2U);
  EXPECT_EQ(out, filled(4, 9)) << "what is planned is not touched";
}

TEST(FileData, SeeksInDirtyBytesAndExtents) {
  auto data = file_of({extent_at(10, 10, 1)});
  data.dirty().write(20, filled(5, 1));
  data.dirty().write(40, filled(5, 1));
  EXPECT_EQ(data.seek_data(0, 100), 10U);
  EXPECT_EQ(data.seek_data(30, 100), 40U);
  EXPECT_EQ(data.seek_data(45, 100), std::nullopt);
  EXPECT_EQ(data.seek_hole(10, 100), 25U);
  EXPECT_EQ(data.seek_hole(40, 45), 45U) << "there is a hole at the end of every file";
  EXPECT_EQ(data.seek_hole(30, 100), 30U);
}

TEST(FileData, AStripeThatGotMoreBytesIsNotSettled) {
  auto data = file_of({extent_at(0, 10, 1), extent_at(10, 10, 2)});
  data.note_unsettled(StripeNumber{1});
  data.note_unsettled(StripeNumber{2});
  data.note_unsettled(StripeNumber{3});
  const auto list = data.unsettled();
  ASSERT_EQ(list.size(), 2U) << "stripe 3 holds nothing of the file";
  data.note_unsettled(StripeNumber{1});
  data.note_settled(list);
  const auto left = data.unsettled();
  ASSERT_EQ(left.size(), 1U);
  EXPECT_EQ(left[0].stripe, StripeNumber{1});
}

TEST(FileData, ALongHistoryLeavesOnlyTheStripesThatHoldBytesUnsettled) {
  constexpr int kRewrites = 1000;
  auto data = file_of({extent_at(0, 10, 1), extent_at(10, 10, 2)});
  data.note_unsettled(StripeNumber{1});
  data.note_unsettled(StripeNumber{2});
  for (int stripe = 3; stripe < 3 + kRewrites; ++stripe) {
    meta::Changes changes;
    data.extents().put(extent_at(10, 10, stripe), changes);
    data.note_unsettled(StripeNumber{stripe});
    const auto list = data.unsettled();
    ASSERT_EQ(list.size(), 2U) << "stripe " << stripe;
    ASSERT_EQ(list[0].stripe, StripeNumber{1});
    ASSERT_EQ(list[1].stripe, StripeNumber{stripe});
  }
  data.note_settled(data.unsettled());
  EXPECT_TRUE(data.unsettled().empty());
}

}  // namespace
}  // namespace ephfs::fs
