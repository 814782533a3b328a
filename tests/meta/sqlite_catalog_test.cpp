// SPDX-License-Identifier: Apache-2.0
// What is SQLite's own: crashes, damage, a full disk, versions, and readers beside a writer.
#include "meta/sqlite_catalog.hpp"

#include <fstream>
#include <future>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "core/files.hpp"
#include "tests/meta/marked_keys.hpp"
#include "tests/meta/raw_database.hpp"
#include "tests/meta/records.hpp"
#include "tests/meta/small_disk.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::meta::testing {
namespace {

using core::Error;
using ephfs::testing::Random;
using ephfs::testing::TempDir;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SqliteCatalogTest : public ::testing::Test {
 protected:
  std::unique_ptr<Catalog> open() { return open_sqlite_catalog(path_).value(); }
  core::Failure open_failure() {
    const auto opened = open_sqlite_catalog(path_);
    EXPECT_FALSE(opened);
    return opened ? core::Failure{} : opened.error();
  }
  /// A catalog with a root and `files` files in it, closed again.
  void fill(std::uint64_t files) {
    const auto catalog = open();
    Changes changes{PutInode{directory(1)}, PutStripe{stripe(1)}};
    for (std::uint64_t number = 2; number < files + 2; ++number) {
      changes.push_back(PutInode{regular(number)});
      changes.push_back(PutName{{1}, "file " + std::to_string(number), {number}});
    }
    ASSERT_TRUE(catalog->commit(changes));
  }

  TempDir dir_;
  const std::filesystem::path path_ = dir_ / "catalog";
};

TEST_F(SqliteCatalogTest, ASecondOpenerFindsItBusy) {
  const auto catalog = open();
  const auto failure = open_failure();
  EXPECT_EQ(failure.code, Error::busy);
  EXPECT_THAT(failure.detail, HasSubstr(path_.string()));
}

TEST_F(SqliteCatalogTest, OnlyTheOwnerMayReadTheFile) {
  fill(1);
  EXPECT_EQ(std::filesystem::status(path_).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(SqliteCatalogTest, ANewerVersionIsRefusedAndLeftAsItIs) {
  fill(1);
  RawDatabase(path_).run("PRAGMA user_version = 4");
  const auto failure = open_failure();
  EXPECT_EQ(failure.code, Error::version);
  EXPECT_EQ(failure.detail, "catalog " + path_.string() + ": version 4, and this program knows up to 3");
  RawDatabase(path_).run("PRAGMA user_version = 3");
  EXPECT_TRUE(open()->lookup({1}, "file 2").value());
}

TEST_F(SqliteCatalogTest, WhatIsNoCatalogIsRefused) {
  RawDatabase(path_).run("CREATE TABLE other (a)");
  EXPECT_EQ(open_failure().code, Error::damaged);
  RawDatabase(path_).run("INSERT INTO other VALUES (1)");

  std::ofstream(path_, std::ios::trunc) << std::string(10000, 'x');
  const auto failure = open_failure();
  EXPECT_EQ(failure.code, Error::damaged);
  EXPECT_THAT(failure.detail, HasSubstr(path_.string()));
}

TEST_F(SqliteCatalogTest, AMissingTableIsNamed) {
  fill(1);
  RawDatabase(path_).run("DROP TABLE removals");
  const auto failure = open_failure();
  EXPECT_EQ(failure.code, Error::damaged);
  EXPECT_THAT(failure.detail, HasSubstr("removals"));
}

TEST_F(SqliteCatalogTest, ADirectoryThatIsNotThereIsAnError) {
  EXPECT_EQ(open_sqlite_catalog(dir_ / "none" / "catalog").error().code, Error::not_found);
}

TEST_F(SqliteCatalogTest, DamagedPagesAreFoundAndNamed) {
  fill(2000);
  {
    const auto file = core::open_file(path_, O_RDWR).value();
    const auto pages = std::filesystem::file_size(path_) / 4096;
    ASSERT_GT(pages, 40U);
    // The first pages are the schema and the tables' roots.
    for (std::uint64_t page = 32; page < pages; ++page) {
      ASSERT_TRUE(core::write_all(file, page * 4096, core::Bytes(4096, std::byte{0xa5})));
    }
  }
  const auto catalog = open();
  bool found = false;
  for (std::uint64_t number = 2; number < 2002; ++number) {
    const auto inode = catalog->inode({number});
    if (inode) continue;
    found = true;
    EXPECT_EQ(inode.error().code, Error::damaged);
    EXPECT_THAT(inode.error().detail, HasSubstr(path_.string()));
    EXPECT_THAT(inode.error().detail, HasSubstr("inodes"));
  }
  EXPECT_TRUE(found);
  EXPECT_THAT(catalog->check().value(), ::testing::Not(IsEmpty()));
}

TEST_F(SqliteCatalogTest, ARecordThatHoldsWhatNoneCanIsDamage) {
  fill(3);
  RawDatabase(path_).run(
      "UPDATE inodes SET links = -1 WHERE number = 2; UPDATE inodes SET file = x'01' WHERE number = 3;"
      "UPDATE stripes SET profile_k = 0");
  const auto catalog = open();
  EXPECT_EQ(catalog->inode({2}).error().code, Error::damaged);
  EXPECT_EQ(catalog->inode({3}).error().code, Error::damaged);
  EXPECT_EQ(catalog->stripe({1}).error().code, Error::damaged);
  EXPECT_TRUE(catalog->inode({4}));
}

TEST_F(SqliteCatalogTest, CheckNamesEachBrokenInvariant) {
  struct Case {
    const char* sql;
    const char* line;
  };
  const std::vector<Case> cases{
      {"INSERT INTO names VALUES (1, x'61', 77)", "leads to inode 77"},
      {"INSERT INTO names VALUES (2, x'61', 3)", "is in 2, which is no directory"},
      {"UPDATE inodes SET links = 5 WHERE number = 2", "inode 2 counts 5 links and has 1 names"},
      {"INSERT INTO names VALUES (1, x'61', 1)", "directory 1 has 1 names"},
      {"INSERT INTO xattrs VALUES (77, x'61', x'')", "xattr of inode 77"},
      {"INSERT INTO extents VALUES (77, 0, 1, 1, 0, 0, 1)", "extent at 0 of inode 77, which"},
      {"INSERT INTO extents VALUES (2, 0, 10, 1, 0, 0, 10), (2, 9, 10, 1, 0, 9, 10)", "reaches 10, over the next at 9"},
      {"INSERT INTO extents VALUES (2, 0, 10, 1, 0, 1, 20)", "no slice of its origin"},
      {"INSERT INTO extents VALUES (2, 0, 10, 77, 0, 0, 10)", "not inside stripe 77"},
      {"INSERT INTO extents VALUES (2, 0, 10, 1, 1048570, 0, 10)", "not inside stripe 1"},
      {"UPDATE stripes SET live = 3", "stripe 1 counts 3 live bytes and has 0"},
      {"INSERT INTO placements VALUES (77, 0, x'', x'', 0, 0, 0, 0, x'')", "stripe 77"},
      {"INSERT INTO placements VALUES (1, 3, x'', x'', 0, 0, 0, 0, x'')", "stripe 1, which has 3"},
      {"UPDATE totals SET inodes = 9", "totals count 9 inodes"},
      {"UPDATE totals SET last_inode = 1", "behind the largest"},
      {"DELETE FROM totals", "no totals"},
  };
  for (const Case& broken : cases) {
    SCOPED_TRACE(broken.sql);
    for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path_.string() + suffix);
    fill(2);
    EXPECT_THAT(open()->check().value(), IsEmpty());
    RawDatabase(path_).run(broken.sql);  // foreign keys are off unless a connection asks for them
    EXPECT_THAT(open()->check().value(), ::testing::Contains(HasSubstr(broken.line)));
  }
}

TEST_F(SqliteCatalogTest, ReadersSeeWholeCommitsWhileAWriterIsAtWork) {
  fill(1);
  const auto catalog = open();
  RawDatabase writer(path_);
  writer.run("PRAGMA foreign_keys = ON; BEGIN IMMEDIATE; UPDATE inodes SET size = 77 WHERE number = 2");
  // The transaction is open; more readers than there are connections all get through, and see what was
  // before.
  std::vector<std::future<std::uint64_t>> readers;
  for (int reader = 0; reader < 20; ++reader) {
    readers.push_back(std::async(std::launch::async, [&] {
      std::uint64_t seen = 0;
      for (int round = 0; round < 20; ++round) seen += catalog->lookup({1}, "file 2").value()->size;
      return seen;
    }));
  }
  for (auto& reader : readers) EXPECT_EQ(reader.get(), 0U);
  writer.run("COMMIT");
  EXPECT_EQ(catalog->lookup({1}, "file 2").value()->size, 77U);
}

TEST_F(SqliteCatalogTest, EveryThreadSeesItsOwnCommits) {
  fill(8);
  const auto catalog = open();
  std::vector<std::future<bool>> threads;
  for (std::uint64_t number = 2; number < 10; ++number) {
    threads.push_back(std::async(std::launch::async, [&catalog, number] {
      for (std::uint64_t size = 1; size <= 100; ++size) {
        if (!catalog->commit({PutInode{regular(number, size)}})) return false;
        if (catalog->inode({number}).value()->size != size) return false;
      }
      return true;
    }));
  }
  for (auto& thread : threads) EXPECT_TRUE(thread.get());
  EXPECT_THAT(catalog->check().value(), IsEmpty());
}

TEST_F(SqliteCatalogTest, TheLogIsCopiedIntoTheFileAndStartsOver) {
  fill(1);
  const auto catalog = open();
  const auto log = path_.string() + "-wal";
  // Each commit rewrites some pages of the log; without its being copied it would hold all of 20,000 and
  // more.
  Changes changes;
  for (int step = 0; step < 20000; ++step) {
    changes = {PutXattr{{2}, "user.a", core::Bytes(3000, static_cast<std::byte>(step))}};
    ASSERT_TRUE(catalog->commit(changes));
  }
  EXPECT_LT(std::filesystem::file_size(log), 20000ULL * 4096);
  EXPECT_EQ(catalog->xattr({2}, "user.a").value(), std::get<PutXattr>(changes[0]).value);
}

/// Commits files one by one and tells of each through `pipe` once the commit has returned; if `scrubs`, another
/// thread scrubs all the time. Never returns.
[[noreturn]] void commit_until_killed(const std::filesystem::path& path, int pipe, bool scrubs) {
  const auto catalog = open_sqlite_catalog(path);
  if (!catalog) ::_exit(1);
  std::thread scrubber([&catalog, scrubs] {
    while (scrubs) {
      if (!(*catalog)->scrub()) ::_exit(3);
    }
  });
  scrubber.detach();
  for (std::uint64_t number = (*catalog)->last_inode().value().value + 1;; ++number) {
    const auto offset = static_cast<std::uint64_t>(number);
    const auto done = (*catalog)->commit({PutInode{regular(number, 10)}, PutName{{1}, std::to_string(number), {number}},
                                          PutExtent{extent(number, 0, 10, 1, offset % 1000)},
                                          PutXattr{{number}, "user.a", core::Bytes(2000)}});
    if (!done || ::write(pipe, &number, sizeof number) != sizeof number) ::_exit(2);
  }
}

TEST_F(SqliteCatalogTest, WhatACommitReturnedForSurvivesAKill) {
  Random random;
  EPHFS_TRACE_SEED(random);
  {
    const auto catalog = open();
    ASSERT_TRUE(catalog->commit({PutInode{directory(1)}, PutStripe{stripe(1)}}));
  }
  std::uint64_t last = 1;
  for (int round = 0; round < 8; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) commit_until_killed(path_, ends[1], round % 2 == 1);
    ::close(ends[1]);
    const core::FileDescriptor told(ends[0]);
    const std::uint64_t enough = last + random.between(1, 400);
    while (last < enough && ::read(told.get(), &last, sizeof last) == sizeof last) {
    }
    EXPECT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the child failed by itself: " << WEXITSTATUS(status);
    while (::read(told.get(), &last, sizeof last) == sizeof last) {
    }
    ASSERT_GE(last, enough);

    const auto catalog = open();
    EXPECT_GE(catalog->last_inode().value().value, last);
    for (std::uint64_t number = 2; number <= last; ++number) {
      ASSERT_TRUE(catalog->lookup({1}, std::to_string(number)).value()) << number;
    }
    EXPECT_EQ(catalog->xattr({last}, "user.a").value(), core::Bytes(2000));
    EXPECT_THAT(catalog->check().value(), IsEmpty());
    last = catalog->last_inode().value().value;
  }
}

TEST_F(SqliteCatalogTest, AFullDiskRefusesACommitAndTheCatalogGoesOn) {
  const SmallDisk disk(dir_ / "disk");
  if (!disk.is_mounted()) GTEST_SKIP() << "needs to mount a tmpfs";
  auto catalog = open_sqlite_catalog(dir_ / "disk" / "catalog").value();
  ASSERT_TRUE(catalog->commit({PutInode{directory(1)}}));
  std::uint64_t number = 2;
  Result<> done;
  for (; number < 10000; ++number) {
    done = catalog->commit({PutInode{regular(number)}, PutName{{1}, std::to_string(number), {number}},
                            PutXattr{{number}, "user.a", core::Bytes(10000)}});
    if (!done) break;
  }
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Error::no_space) << done.error();
  EXPECT_EQ(catalog->inode({number}).value(), std::nullopt);
  EXPECT_EQ(catalog->totals().value().inodes, number - 1);
  EXPECT_TRUE(catalog->lookup({1}, std::to_string(number - 1)).value());
  EXPECT_THAT(catalog->check().value(), IsEmpty());

  // Nothing but deleting makes room, so it works on the full disk, and so does opening.
  const std::uint64_t half = number / 2;
  disk.fill();
  for (std::uint64_t dead = 2; dead < number; ++dead) {
    if (dead == half) {
      catalog.reset();
      disk.fill();
      catalog = open_sqlite_catalog(dir_ / "disk" / "catalog").value();
    }
    const auto dropped = catalog->commit({DropName{{1}, std::to_string(dead)}, DropInode{{dead}}});
    ASSERT_TRUE(dropped) << dead << " of " << number << ": " << dropped.error();
  }
  const auto again = catalog->commit(
      {PutInode{regular(number)}, PutName{{1}, "again", {number}}, PutXattr{{number}, "user.a", core::Bytes(10000)}});
  EXPECT_TRUE(again) << again.error();
  EXPECT_THAT(catalog->check().value(), IsEmpty());
}

TEST_F(SqliteCatalogTest, ADroppedKeyIsInTheLogUntilItIsScrubbed) {
  const auto catalog = open();
  MarkedKeys keys;
  ASSERT_TRUE(catalog->commit({PutInode{directory(1)}}));
  for (int step = 0; step < 300; ++step) ASSERT_TRUE(catalog->commit(keys.next_changes()));
  ASSERT_TRUE(catalog->commit(keys.drop_all()));
  EXPECT_FALSE(keys.find_in(dir_.path()).dead.empty()) << "else the tests of scrubbing show nothing";
  ASSERT_TRUE(catalog->scrub());
  EXPECT_THAT(keys.find_in(dir_.path()).dead, IsEmpty());
}

TEST_F(SqliteCatalogTest, ScrubbingDoesNotWaitForALongReader) {
  const auto catalog = open();
  MarkedKeys keys;
  ASSERT_TRUE(catalog->commit({PutInode{directory(1)}}));
  ASSERT_TRUE(catalog->commit(keys.next_changes()));
  {
    RawDatabase reader(path_);
    reader.run("BEGIN; SELECT count(*) FROM inodes");
    ASSERT_TRUE(catalog->commit(keys.drop_all()));
    EXPECT_EQ(catalog->scrub().error().code, Error::busy);
    ASSERT_TRUE(catalog->commit(keys.next_changes())) << "who commits is not held up";
  }
  EXPECT_TRUE(catalog->scrub());
  EXPECT_THAT(keys.find_in(dir_.path()).dead, IsEmpty());
}

TEST_F(SqliteCatalogTest, WhatAKillLeftInTheLogIsScrubbedByTheNextRun) {
  MarkedKeys keys;
  TempDir after;
  {
    const auto catalog = open();
    ASSERT_TRUE(catalog->commit({PutInode{directory(1)}}));
    for (int step = 0; step < 300; ++step) ASSERT_TRUE(catalog->commit(keys.next_changes()));
    for (const char* file : {"catalog", "catalog-wal"}) std::filesystem::copy(dir_ / file, after / file);
  }
  const auto catalog = open_sqlite_catalog(after / "catalog").value();
  EXPECT_FALSE(keys.find_in(after.path()).dead.empty());
  ASSERT_TRUE(catalog->scrub());
  EXPECT_THAT(keys.find_in(after.path()).dead, IsEmpty());
  EXPECT_EQ(keys.find_in(after.path()).living.size(), keys.living());
}

}  // namespace
}  // namespace ephfs::meta::testing
