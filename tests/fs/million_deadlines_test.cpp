// SPDX-License-Identifier: Apache-2.0
// A million files die at random within a minute. Heavy: some ten seconds, because each has a row that is made
// and deleted.
#include <algorithm>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

constexpr std::size_t kFiles = 1'000'000;
constexpr std::size_t kAskedOneIn = 10;
constexpr Milliseconds kSpan = 60s;
constexpr Milliseconds kStep = 5ms;
constexpr Milliseconds kEarlyMax = 20ms;

struct Dying {
  core::Instant deadline;
  InodeNumber number;
};

/// Puts them straight into the catalog: what is tested begins when they are there.
std::vector<Dying> make_files(TestVolume& volume) {
  constexpr std::size_t kBatch = 20'000;
  Random random;
  EPHFS_TRACE_SEED(random);
  auto catalog = meta::open_sqlite_catalog(volume.options.directory / "catalog");
  EXPECT_TRUE(catalog) << catalog.error();
  const core::Instant start = volume.clock.now() + 1s;
  std::vector<Dying> files;
  meta::Changes changes;
  for (std::size_t i = 0; i < kFiles; ++i) {
    meta::InodeRecord record;
    record.number = {i + 2};
    record.mode = S_IFREG | 0644;
    record.links = 1;
    record.file = core::random_id<core::FileId>();
    record.wrapped_key = core::Bytes(72);
    record.deadline = Deadline(start + Milliseconds(random.below(static_cast<std::uint64_t>(kSpan.count()))));
    files.push_back({record.deadline.instant(), record.number});
    changes.emplace_back(meta::PutName{core::kRootInode, std::to_string(i), record.number});
    changes.emplace_back(meta::PutInode{std::move(record)});
    if (changes.size() < 2 * kBatch) continue;
    const auto committed = (*catalog)->commit(changes);
    EXPECT_TRUE(committed) << committed.error();
    changes.clear();
  }
  std::ranges::sort(files, {}, &Dying::deadline);
  return files;
}

std::uint64_t resident_bytes() {
  std::ifstream pages("/proc/self/statm");
  std::uint64_t all = 0;
  std::uint64_t resident = 0;
  pages >> all >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

TEST(MillionDeadlines, EachDiesOnTimeAndIsReaped) {
  TestVolume volume;
  volume.open();
  volume.close();
  const auto files = make_files(volume);
  const std::uint64_t before_opening = resident_bytes();
  auto catalog = meta::open_sqlite_catalog(volume.options.directory / "catalog");
  ASSERT_TRUE(catalog) << catalog.error();
  auto opened = Engine::open({volume.options,
                              *std::move(catalog),
                              volume.keys,
                              core::derived_epoch_keys(volume.keys.master),
                              volume.peers,
                              volume.clock,
                              volume.context.get_executor(),
                              {}});
  ASSERT_TRUE(opened) << opened.error();
  Engine& engine = **opened;
  engine.start(nullptr);
  volume.clock.run_for(500ms);
  constexpr std::uint64_t kBytesEach = 64;
  EXPECT_LE(resident_bytes(), before_opening + kBytesEach * kFiles)
      << "pending deadlines are in the catalog's index";
  std::size_t early = 0;
  std::size_t late = 0;
  std::size_t before = 0;  // files whose last moment allowed for early refusal has been asked about
  std::size_t after = 0;   // files that were asked for at or after their deadline
  while (after < kFiles) {
    const core::Instant now = volume.clock.now();
    for (; before < kFiles && files[before].deadline < now + kStep + kEarlyMax; ++before) {
      if (files[before].deadline < now + kEarlyMax || before % kAskedOneIn != 0) continue;
      if (!engine.attributes(files[before].number, false)) ++early;
    }
    for (; after < kFiles && files[after].deadline <= now; ++after) {
      if (after % kAskedOneIn == 0 && engine.attributes(files[after].number, false)) ++late;
    }
    volume.clock.run_for(kStep);
  }
  EXPECT_EQ(early, 0U);
  EXPECT_EQ(late, 0U);
  EXPECT_EQ(engine.statistics()->inodes, 1U) << "all are reaped but the root";
  ASSERT_TRUE(volume.run(engine.stop()));
}

}  // namespace
}  // namespace ephfs::fs::testing
