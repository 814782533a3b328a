// SPDX-License-Identifier: Apache-2.0
// Files die at random within a minute: 200,000 of them, in some ten seconds, because each has a row that is
// made and deleted; as many as EPHFS_DEADLINES says when it is set (a million: about a minute).
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include <sys/stat.h>
#include <unistd.h>

#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

constexpr std::size_t kAskedOneIn = 10;
constexpr Milliseconds kSpan = 60s;
constexpr Milliseconds kStep = 5ms;
constexpr Milliseconds kEarlyMax = 20ms;

std::size_t file_count() {
  constexpr std::size_t kUsual = 200'000;
  const char* given = std::getenv("EPHFS_DEADLINES");
  return given == nullptr ? kUsual : std::strtoul(given, nullptr, 10);
}

struct Dying {
  core::Instant deadline;
  InodeNumber number;
};

/// Puts them straight into the catalog: what is tested begins when they are there.
std::vector<Dying> make_files(TestVolume& volume, std::size_t count) {
  constexpr std::size_t kBatch = 20'000;
  Random random;
  EPHFS_TRACE_SEED(random);
  auto catalog = meta::open_sqlite_catalog(volume.options.directory / "catalog");
  EXPECT_TRUE(catalog) << catalog.error();
  const core::Instant start = volume.clock.now() + 1s;
  std::vector<Dying> files;
  meta::Changes changes;
  for (std::size_t i = 0; i < count; ++i) {
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
    if (changes.size() < 2 * kBatch && i + 1 < count) continue;
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

TEST(ManyDeadlines, EachDiesOnTimeAndIsReaped) {
  TestVolume volume;
  volume.open();
  volume.close();
  const std::size_t count = file_count();
  const auto files = make_files(volume, count);
  const std::uint64_t before_opening = resident_bytes();
  auto catalog = meta::open_sqlite_catalog(volume.options.directory / "catalog");
  ASSERT_TRUE(catalog) << catalog.error();
  auto opened = Engine::open({volume.options,
                              *std::move(catalog),
                              volume.keys,
                              std::make_unique<ephfs::testing::FakeEpochKeys>(volume.keys.master),
                              volume.peers,
                              volume.clock,
                              volume.context.get_executor(),
                              {}});
  ASSERT_TRUE(opened) << opened.error();
  Engine& engine = **opened;
  engine.start(nullptr);
  volume.clock.run_for(500ms);
  constexpr std::uint64_t kBytesEach = 64;
  constexpr std::uint64_t kEngineItself = std::uint64_t{16} << 20U;
  const std::uint64_t resident = resident_bytes();
  std::cout << count << " pending deadlines, " << (resident - std::min(resident, before_opening)) / 1024
            << " KiB more than before\n";
  EXPECT_LE(resident, before_opening + kEngineItself + kBytesEach * count)
      << "pending deadlines are in the catalog's index";
  std::size_t early = 0;
  std::size_t late = 0;
  std::size_t before = 0;  // files whose last moment allowed for early refusal has been asked about
  std::size_t after = 0;   // files that were asked for at or after their deadline
  while (after < count) {
    const core::Instant now = volume.clock.now();
    for (; before < count && files[before].deadline < now + kStep + kEarlyMax; ++before) {
      if (files[before].deadline < now + kEarlyMax || before % kAskedOneIn != 0) continue;
      if (!engine.attributes(files[before].number, false)) ++early;
    }
    for (; after < count && files[after].deadline <= now; ++after) {
      if (after % kAskedOneIn == 0 && engine.attributes(files[after].number, false)) ++late;
    }
    volume.clock.run_for(kStep);
  }
  volume.clock.run_for(1s);
  EXPECT_EQ(early, 0U);
  EXPECT_EQ(late, 0U);
  EXPECT_EQ(engine.statistics()->inodes, 1U) << "all are reaped but the root";
  ASSERT_TRUE(volume.run(engine.stop()));
}

}  // namespace
}  // namespace ephfs::fs::testing
