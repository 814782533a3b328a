// SPDX-License-Identifier: Apache-2.0
// What is the journal's own: crashes at any byte, damage, replaying twice, a catalog below that refuses.
#include "meta/journaled_catalog.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <future>
#include <thread>

#include <fcntl.h>
#include <sodium.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/files.hpp"
#include "meta/change_codec.hpp"
#include "meta/journal_file.hpp"
#include "meta/sqlite_catalog.hpp"
#include "tests/fs/faulty_catalog.hpp"
#include "tests/meta/journal_head.hpp"
#include "tests/meta/marked_keys.hpp"
#include "tests/meta/records.hpp"
#include "tests/meta/small_disk.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::meta::testing {
namespace {

using core::Error;
using ephfs::testing::Random;
using ephfs::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::size_t kHeadBytes = kJournalHeadBytes;

class JournaledCatalogTest : public ::testing::Test {
 protected:
  [[nodiscard]] Result<std::unique_ptr<Catalog>> try_open(const std::filesystem::path& where) const {
    EPHFS_TRY(auto below, open_sqlite_catalog(where / "catalog"));
    return open_journaled_catalog(std::move(below), where / "journal");
  }
  /// A copy of the directory as a kill would leave it now.
  std::filesystem::path crash() {
    auto copy = dir_ / ("crash" + std::to_string(++copies_));
    std::filesystem::create_directory(copy);
    for (const auto& entry : std::filesystem::directory_iterator(home_)) {
      if (!entry.path().filename().string().ends_with("-reserve")) {
        std::filesystem::copy(entry.path(), copy / entry.path().filename());
      }
    }
    return copy;
  }
  static void poke(const std::filesystem::path& file, std::uint64_t offset, core::ByteView bytes) {
    const auto opened = core::open_file(file, O_WRONLY).value();
    ASSERT_TRUE(core::write_all(opened, offset, bytes));
  }
  /// Of a name, as a record has it.
  static std::string text_of_name(const std::string& name) { return std::string("\1\0\0\0", 4) + name; }
  static StagedBytes staged(std::int64_t stripe, const std::string& file, std::uint64_t offset,
                            const std::string& bytes) {
    return {{stripe}, file, offset, core::to_bytes(core::as_bytes(bytes))};
  }
  static std::string content_of(const std::filesystem::path& file) {
    const auto content = core::read_file(file, 16 << 20);
    return content ? std::string(core::as_text(*content)) : "none: " + content.error().message();
  }
  static Changes making(std::uint64_t number) {
    return {PutInode{regular(number, 0, at(static_cast<std::int64_t>(number)))},
            PutName{{1}, std::to_string(number), {number}}};
  }
  /// How many of the files made one after another from 2 on are there.
  static std::uint64_t count(const Catalog& catalog) {
    std::uint64_t number = 2;
    while (catalog.lookup({1}, std::to_string(number)).value()) ++number;
    EXPECT_EQ(catalog.totals().value().inodes, number - 1);
    EXPECT_THAT(catalog.check().value(), IsEmpty());
    return number - 2;
  }
  /// From now on what is committed stays in the journal alone, however long the test takes, until it ends.
  void keep_in_journal() { is_below_closed_ = true; }
  void SetUp() override {
    home_ = dir_ / "home";
    std::filesystem::create_directory(home_);
    auto below = std::make_unique<fs::testing::FaultyCatalog>(open_sqlite_catalog(home_ / "catalog").value(), [this] {
      is_below_closed_.wait(true);
      return false;
    });
    catalog_ = open_journaled_catalog(std::move(below), home_ / "journal").value();
    ASSERT_TRUE(catalog_->commit({PutInode{directory(1)}}));
    ASSERT_TRUE(catalog_->check());  // the root is below, the journal gets the rest
  }
  void TearDown() override {
    is_below_closed_ = false;
    is_below_closed_.notify_all();
  }

  TempDir dir_;
  std::filesystem::path home_;
  std::atomic<bool> is_below_closed_{false};
  std::unique_ptr<Catalog> catalog_;
  int copies_ = 0;
};

TEST_F(JournaledCatalogTest, EveryKindOfChangeIsReadBackAsItWasWritten) {
  InodeRecord inode = regular(2, 77, at(99));
  inode.target = "t";
  inode.rdev = ~0ULL;
  inode.modified = {-5};
  inode.ttl_mode = TtlMode::accessed;
  inode.deadline_explicit = true;
  inode.profile = core::Profile{16, 4};
  const DeadFileRecord dead{{8},   id_of<core::FileId>(8), DeathCause::removed, {7}, at(6), 5,
                            false, {extent(8, 0, 1, 7)}};
  const RemovalRecord removal{id_of<core::ShardId>(1), id_of<core::NodeId>(2), 3, at(4)};
  const Changes changes{PutInode{inode},
                        DropInode{{3}},
                        PutName{{1}, "\xff", {2}},
                        DropName{{1}, "b"},
                        PutXattr{{2}, "user.a", core::Bytes(3)},
                        DropXattr{{2}, "user.b"},
                        PutExtent{extent(2, 4096, 10, 7, 99)},
                        DropExtent{{2}, 5},
                        PutStripe{stripe(7, StripeState::sealed, 99, at(5))},
                        PutDeadFile{dead},
                        DropDeadFile{{9}},
                        PutPlacement{placement(7, 3)},
                        PutRemoval{removal},
                        DropRemoval{id_of<core::ShardId>(5), id_of<core::NodeId>(6)}};
  const core::Bytes bytes = encode_commit(changes, {staged(7, "7-ab.stripe", 99, "bytes")});
  const auto commit = decode_commit(bytes).value();
  const Changes& decoded = commit.changes;
  ASSERT_EQ(decoded.size(), changes.size());
  EXPECT_EQ(std::get<PutInode>(decoded[0]).inode, inode);
  EXPECT_EQ(std::get<PutExtent>(decoded[6]).extent, extent(2, 4096, 10, 7, 99));
  EXPECT_EQ(std::get<PutStripe>(decoded[8]).stripe, stripe(7, StripeState::sealed, 99, at(5)));
  EXPECT_EQ(std::get<PutDeadFile>(decoded[9]).file, dead);
  EXPECT_EQ(std::get<PutPlacement>(decoded[11]).placement, placement(7, 3));
  EXPECT_EQ(std::get<PutRemoval>(decoded[12]).removal, removal);
  ASSERT_EQ(commit.staged.size(), 1U);
  EXPECT_EQ(commit.staged[0].stripe, StripeNumber{7});
  EXPECT_EQ(commit.staged[0].file, "7-ab.stripe");
  EXPECT_EQ(commit.staged[0].offset, 99U);
  EXPECT_EQ(core::as_text(commit.staged[0].bytes), "bytes");
  EXPECT_EQ(encode_commit(decoded, commit.staged), bytes);
  // Cut anywhere, it is whole changes or refused; nothing is read past the end.
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const auto cut = decode_commit(core::ByteView(bytes).first(length));
    if (cut) {
      EXPECT_TRUE(cut->staged.empty());
    }
  }
}

TEST_F(JournaledCatalogTest, NoFileOutsideItsDirectoryIsWrittenTo) {
  for (const std::string& name : std::vector<std::string>{"", ".", "..", "../a", "/a", "a/b", {'a', '\0', 'b'}}) {
    const auto commit = decode_commit(encode_commit({}, {staged(1, name, 0, "bytes")}));
    ASSERT_FALSE(commit) << name;
    EXPECT_EQ(commit.error().code, Error::damaged);
  }
  core::Bytes wrong_order = encode_commit({}, {staged(1, "a", 0, "bytes")});
  std::ranges::copy(encode_commit({DropInode{{3}}}, {}), std::back_inserter(wrong_order));
  EXPECT_FALSE(decode_commit(wrong_order));
}

TEST_F(JournaledCatalogTest, AJournalCutAtAnyByteHoldsTheCommitsBeforeTheCut) {
  const auto end_now = [&] {
    core::Bytes content = core::read_file(home_ / "journal", 16 << 20).value();
    while (content.back() == std::byte{0}) content.pop_back();
    return std::uint64_t{content.size()};
  };
  const std::uint64_t root_end = end_now();  // below already, and still in the journal
  keep_in_journal();
  std::vector<std::uint64_t> ends;
  for (std::uint64_t number = 2; number < 5; ++number) {
    ASSERT_TRUE(catalog_->commit(making(number)));
    ends.push_back(end_now());
  }
  const auto crashed = crash();
  const core::Bytes whole = core::read_file(crashed / "journal", 16 << 20).value();
  const auto expected = [&](std::size_t cut) {
    return static_cast<std::uint64_t>(std::ranges::count_if(ends, [&](std::uint64_t end) { return end <= cut; }));
  };
  const auto cut_at = [&](const std::filesystem::path& journal, std::size_t cut) {
    core::Bytes torn = whole;
    std::fill(torn.begin() + static_cast<std::ptrdiff_t>(cut), torn.end(), std::byte{0});
    poke(journal, 0, torn);
  };
  // From the end to the head, so that each cut takes one byte more away.
  const auto journal = dir_ / "journal";
  std::filesystem::copy_file(crashed / "journal", journal);
  for (std::size_t cut = ends.back(); cut >= kHeadBytes; --cut) {
    const std::byte zero{0};
    poke(journal, cut, core::ByteView(&zero, 1));
    const std::uint64_t records = expected(cut) + (cut >= root_end ? 1 : 0);
    EXPECT_EQ(JournalFile::open(journal).value().take_records().size(), records) << cut;
  }
  for (const std::size_t end : ends) {
    for (const std::size_t cut : {end - 1, end}) {
      const auto copy = dir_ / "cut";
      std::filesystem::remove_all(copy);
      std::filesystem::copy(crashed, copy);
      cut_at(copy / "journal", cut);
      EXPECT_EQ(count(*try_open(copy).value()), expected(cut)) << cut;
      EXPECT_EQ(count(*try_open(copy).value()), expected(cut)) << cut;
    }
  }
}

TEST_F(JournaledCatalogTest, DamageBeforeAWholeRecordIsNamed) {
  for (std::uint64_t number = 2; number < 5; ++number) ASSERT_TRUE(catalog_->commit(making(number)));
  const auto crashed = crash();
  poke(crashed / "journal", kHeadBytes + 30, core::as_bytes("damage"));
  const auto opened = try_open(crashed);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Error::damaged);
  EXPECT_THAT(opened.error().detail, HasSubstr("crash1/journal"));
}

TEST_F(JournaledCatalogTest, AFlippedByteOfARecordIsDamageUnlessItIsTheLastOne) {
  Random random;
  EPHFS_TRACE_SEED(random);
  for (std::uint64_t number = 2; number < 20; ++number) ASSERT_TRUE(catalog_->commit(making(number)));
  const auto copied = dir_ / "journal";
  std::filesystem::copy_file(home_ / "journal", copied);
  const core::Bytes whole = core::read_file(copied, 16 << 20).value();
  const std::size_t end = JournalFile::open(copied).value().used();
  const std::size_t last = JournalFile::record_bytes(encode_commit(making(19), {}).size());
  for (int step = 0; step < 300; ++step) {
    const std::size_t at = kHeadBytes + random.below(end - kHeadBytes);
    const std::byte flipped = whole[at] ^ std::byte{static_cast<unsigned char>(1U << random.below(8))};
    poke(copied, at, core::ByteView(&flipped, 1));
    auto opened = JournalFile::open(copied);
    ASSERT_EQ(opened.has_value(), at >= end - last) << at;
    if (opened) {
      EXPECT_EQ(opened->take_records().size(), 18U) << at;
    } else {
      EXPECT_EQ(opened.error().code, Error::damaged);
    }
    poke(copied, at, core::ByteView(whole).subspan(at, 1));
  }
}

TEST_F(JournaledCatalogTest, AFlippedByteOfTheHeadIsNamed) {
  ASSERT_TRUE(catalog_->commit(making(2)));
  for (std::size_t at = 0; at < kHeadBytes; ++at) {
    const auto crashed = crash();
    const core::Bytes head = core::read_file(crashed / "journal", 16 << 20).value();
    const std::byte flipped = head[at] ^ std::byte{1};
    poke(crashed / "journal", at, core::ByteView(&flipped, 1));
    const auto opened = try_open(crashed);
    ASSERT_FALSE(opened) << at;
    EXPECT_TRUE(opened.error().code == Error::damaged || opened.error().code == Error::version);
    std::filesystem::remove_all(crashed);
  }
}

TEST_F(JournaledCatalogTest, WhatIsBelowAlreadyIsNotDoneAgain) {
  ASSERT_TRUE(catalog_->commit(making(2)));
  ASSERT_TRUE(catalog_->check());  // below now, and still in the journal
  ASSERT_TRUE(catalog_->commit({DropName{{1}, "2"}, DropInode{{2}}}));
  ASSERT_TRUE(catalog_->check());
  const auto crashed = crash();
  EXPECT_EQ(count(*try_open(crashed).value()), 0U);
  const auto reopened = try_open(crashed).value();
  EXPECT_EQ(count(*reopened), 0U);
  EXPECT_EQ(reopened->last_inode().value(), InodeNumber{2});
}

TEST_F(JournaledCatalogTest, WithoutACommitThatWentBesideItTheJournalEnds) {
  ASSERT_TRUE(catalog_->commit(making(2)));
  const auto early = crash();
  ASSERT_TRUE(catalog_->commit({PutValue{"key", core::Bytes(1)}}));
  ASSERT_TRUE(catalog_->commit(making(3)));
  const auto late = crash();
  EXPECT_EQ(count(*try_open(late).value()), 2U);
  // As a loss of power may leave it: of two files that were not synced, one is there.
  std::filesystem::copy_file(crash() / "journal", early / "journal", std::filesystem::copy_options::overwrite_existing);
  const auto opened = try_open(early);
  ASSERT_FALSE(opened) << "no loss of power: the same run of the kernel";
  EXPECT_EQ(opened.error().code, Error::damaged);
  EXPECT_THAT(opened.error().detail, HasSubstr("crash1/journal"));
  as_of_another_boot(early / "journal");
  const auto catalog = try_open(early).value();
  EXPECT_EQ(count(*catalog), 1U);
  EXPECT_EQ(catalog->value("key").value(), std::nullopt);
}

TEST_F(JournaledCatalogTest, WhatWasSyncedIsDemandedAfterALossOfPowerAsWell) {
  ASSERT_TRUE(catalog_->commit(making(2)));
  ASSERT_TRUE(catalog_->commit(making(3)));
  ASSERT_TRUE(catalog_->sync());
  ASSERT_TRUE(catalog_->commit(making(4)));
  for (const bool is_synced : {true, false}) {
    const auto crashed = crash();
    as_of_another_boot(crashed / "journal");
    const core::Bytes content = core::read_file(crashed / "journal", 16 << 20).value();
    const std::string text(core::as_text(content));
    const auto where = is_synced ? text.find(text_of_name("2")) : text.find(text_of_name("4"));
    ASSERT_NE(where, std::string::npos);
    poke(crashed / "journal", where, core::as_bytes("damage"));
    const auto opened = try_open(crashed);
    ASSERT_EQ(opened.has_value(), !is_synced);
    if (opened) {
      EXPECT_EQ(count(**opened), 2U);
    }
  }
}

TEST_F(JournaledCatalogTest, BytesKeptWithACommitAreWrittenToTheirFiles) {
  const auto commit = [&](std::int64_t stripe_number, StripeState state, const std::string& file, std::uint64_t offset,
                          const std::string& bytes) {
    const auto kept = catalog_->commit_keeping({PutStripe{stripe(stripe_number, state, 99, at(5))}},
                                               {staged(stripe_number, file, offset, bytes)});
    return kept && *kept;
  };
  ASSERT_TRUE(commit(1, StripeState::open, "1", 3, "below already"));
  ASSERT_TRUE(catalog_->check());
  ASSERT_TRUE(commit(1, StripeState::open, "1", 0, "in"));
  ASSERT_TRUE(commit(2, StripeState::sealed, "2", 2, "front"));
  ASSERT_TRUE(commit(2, StripeState::sealed, "2", 7, " and back"));
  ASSERT_TRUE(commit(3, StripeState::open, "3", 0, "placed"));
  ASSERT_TRUE(catalog_->commit({PutStripe{stripe(3, StripeState::placed, 99, at(5))}}));
  ASSERT_TRUE(commit(4, StripeState::open, "4", 0, "dropped"));
  const auto crashed = crash();
  auto opened = try_open(crashed);
  ASSERT_TRUE(opened) << opened.error();
  const auto home = crashed / "staging";
  EXPECT_EQ(content_of(home / "1"), std::string("in\0below already", 16));
  EXPECT_EQ(content_of(home / "2"), std::string("\0\0front and back", 16));
  EXPECT_FALSE(std::filesystem::exists(home / "3")) << "it has left staging";
  EXPECT_TRUE(std::filesystem::exists(home / "4"));
  // They are safe where they are now, so the journal keeps them no longer.
  std::filesystem::remove_all(home);
  opened->reset();
  ASSERT_TRUE(try_open(crashed));
  EXPECT_FALSE(std::filesystem::exists(home));
}

TEST_F(JournaledCatalogTest, BytesAreNotKeptWithACommitThatGoesBesideTheJournal) {
  const StagedBytes bytes = staged(1, "1", 0, "bytes");
  const PutStripe put{stripe(1, StripeState::open, 99, at(5))};
  EXPECT_TRUE(catalog_->commit_keeping({put}, {bytes}).value());
  EXPECT_FALSE(catalog_->commit_keeping({put, PutValue{"key", core::Bytes(1)}}, {bytes}).value());
  const auto plain = open_sqlite_catalog(dir_ / "plain").value();
  EXPECT_FALSE(plain->commit_keeping({put}, {bytes}).value());
  EXPECT_TRUE(plain->stripe({1}).value());
}

TEST_F(JournaledCatalogTest, TheJournalKeepsBytesWhoseFileCannotBeSynced) {
  ASSERT_TRUE(
      catalog_->commit_keeping({PutStripe{stripe(1, StripeState::open, 99, at(5))}}, {staged(1, "1", 0, "bytes")}));
  const auto file = home_ / "staging" / "1";
  std::filesystem::create_directories(file);
  EXPECT_FALSE(catalog_->scrub());
  std::filesystem::remove(file);
  ASSERT_TRUE(try_open(crash()));
  EXPECT_EQ(content_of(dir_ / "crash1" / "staging" / "1"), "bytes");
  EXPECT_TRUE(catalog_->scrub()) << "what is not there needs no sync";
}

TEST_F(JournaledCatalogTest, AJournalOfTheFirstVersionIsReadAndMadeOneOfThis) {
  for (const bool is_empty : {false, true}) {
    ASSERT_TRUE(catalog_->commit(making(is_empty ? 3 : 2)));
    if (is_empty) {
      ASSERT_TRUE(catalog_->scrub());
    }
    const auto crashed = crash();
    as_of_version_1(crashed / "journal");
    EXPECT_EQ(count(*try_open(crashed).value()), is_empty ? 2U : 1U);
    const core::Bytes content = core::read_file(crashed / "journal", 16 << 20).value();
    EXPECT_EQ(core::load_le<std::uint32_t>(core::ByteView(content).subspan(kJournalVersionAt)), 2U);
  }
}

TEST_F(JournaledCatalogTest, ReadersAndCommitsGoOnWhileABatchGoesBelow) {
  catalog_.reset();
  std::promise<void> entered;
  std::promise<void> released;
  std::atomic<bool> blocks = false;
  auto below = std::make_unique<fs::testing::FaultyCatalog>(open_sqlite_catalog(home_ / "catalog").value(), [&] {
    if (blocks.exchange(false)) {
      entered.set_value();
      released.get_future().wait();
    }
    return false;
  });
  catalog_ = open_journaled_catalog(std::move(below), home_ / "journal").value();
  ASSERT_TRUE(catalog_->commit(making(2)));
  blocks = true;
  auto checked = std::async(std::launch::async, [&] { return catalog_->check().has_value(); });
  entered.get_future().wait();
  EXPECT_TRUE(catalog_->lookup({1}, "2").value());
  ASSERT_TRUE(catalog_->commit(making(3)));
  ASSERT_TRUE(catalog_->commit({DropName{{1}, "2"}, DropInode{{2}}}));
  EXPECT_EQ(catalog_->names({1}, "", 9).value().size(), 1U);
  EXPECT_EQ(catalog_->expired({99}, 9).value(), std::vector{InodeNumber{3}});
  EXPECT_EQ(catalog_->totals().value().inodes, 2U);
  released.set_value();
  EXPECT_TRUE(checked.get());
  EXPECT_EQ(catalog_->inode({2}).value(), std::nullopt);
  EXPECT_THAT(catalog_->check().value(), IsEmpty());
}

TEST_F(JournaledCatalogTest, ClosingLeavesNothingInTheJournal) {
  InodeRecord inode = regular(2);
  inode.wrapped_key = core::to_bytes(core::as_bytes("a key that is dropped"));
  ASSERT_TRUE(catalog_->commit({PutInode{inode}}));
  const auto text = [&] { return std::string(core::as_text(core::read_file(home_ / "journal", 16 << 20).value())); };
  EXPECT_THAT(text(), HasSubstr("a key that is dropped"));
  ASSERT_TRUE(catalog_->commit({DropInode{{2}}}));
  catalog_.reset();
  EXPECT_EQ(text().find("a key that is dropped"), std::string::npos);
}

TEST_F(JournaledCatalogTest, MoreThanAJournalFullFromManyThreads) {
  constexpr std::uint64_t kThreads = 4;
  constexpr std::uint64_t kEach = 10'000;
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::uint64_t index = 0; index < kEach; ++index) {
        const std::uint64_t number = 2 + index * kThreads + thread;
        ASSERT_TRUE(catalog_->commit(making(number)));
        ASSERT_TRUE(catalog_->lookup({1}, std::to_string(number)).value());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(count(*catalog_), kThreads * kEach);
  ASSERT_TRUE(catalog_->sync());
  catalog_.reset();
  EXPECT_EQ(count(*try_open(home_).value()), kThreads * kEach);
}

TEST_F(JournaledCatalogTest, WhatACommitReturnedForSurvivesAKill) {
  catalog_.reset();
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto catalog = try_open(home_);
    if (!catalog) ::_exit(2);
    for (std::uint64_t number = 2;; ++number) {
      if (!(*catalog)->commit(making(number)) || ::write(ends[1], &number, sizeof number) < 0) ::_exit(2);
    }
  }
  ::close(ends[1]);
  const core::FileDescriptor told(ends[0]);
  std::uint64_t last = 0;
  while (last < 20'000 && ::read(told.get(), &last, sizeof last) == sizeof last) {
  }
  EXPECT_EQ(::kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  while (::read(told.get(), &last, sizeof last) == sizeof last) {
  }
  ASSERT_GE(last, 20'000U);
  EXPECT_GE(count(*try_open(home_).value()), last - 1);
}

TEST_F(JournaledCatalogTest, WhereShardsAreSurvivesAKillBeforeItIsBelow) {
  const RemovalRecord kept{id_of<core::ShardId>(1), id_of<core::NodeId>(2), 3, at(4)};
  const RemovalRecord done{id_of<core::ShardId>(3), id_of<core::NodeId>(4), 5, at(6)};
  ASSERT_TRUE(catalog_->commit({PutStripe{stripe(1)}, PutPlacement{placement(1, 0, false)}, PutRemoval{done}}));
  ASSERT_TRUE(catalog_->check());  // below
  keep_in_journal();
  ASSERT_TRUE(catalog_->commit({PutPlacement{placement(1, 0)}, PutPlacement{placement(1, 1, false)}, PutRemoval{kept},
                                DropRemoval{done.shard, done.node}}));
  EXPECT_THAT(catalog_->placements({1}).value(), ElementsAre(placement(1, 0), placement(1, 1, false)));
  const auto crashed = crash();
  EXPECT_THAT(open_sqlite_catalog(crashed / "catalog").value()->placements({1}).value(),
              ElementsAre(placement(1, 0, false)));
  const auto catalog = try_open(crashed).value();
  EXPECT_THAT(catalog->placements({1}).value(), ElementsAre(placement(1, 0), placement(1, 1, false)));
  EXPECT_THAT(catalog->owed(9).value(), ElementsAre(placement(1, 1, false)));
  EXPECT_THAT(catalog->removals(9).value(), ElementsAre(kept));
}

TEST_F(JournaledCatalogTest, AFullDiskRefusesACommitAndDeletingGoesOn) {
  const SmallDisk disk(dir_ / "disk");
  if (!disk.is_mounted()) GTEST_SKIP() << "needs to mount a tmpfs";
  auto catalog = open_volume_catalog(dir_ / "disk").value();
  ASSERT_TRUE(catalog->commit({PutInode{directory(1)}}));
  const auto making_large = [](std::uint64_t number) {
    Changes changes = making(number);
    changes.emplace_back(PutXattr{{number}, "user.a", core::Bytes(10000)});
    return changes;
  };
  std::uint64_t number = 2;
  Result<> done;
  for (; number < 10000; ++number) {
    done = catalog->commit(making_large(number));
    if (!done) break;
  }
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Error::no_space) << done.error();
  EXPECT_EQ(catalog->inode({number}).value(), std::nullopt);
  EXPECT_EQ(catalog->totals().value().inodes, number - 1);
  EXPECT_TRUE(catalog->lookup({1}, std::to_string(number - 1)).value());
  const std::uint64_t half = number / 2;
  disk.fill();
  for (std::uint64_t dead = 2; dead < number; ++dead) {
    if (dead == 2 || dead == half) {
      catalog.reset();
      disk.fill();
      catalog = open_volume_catalog(dir_ / "disk").value();
      EXPECT_EQ(catalog->totals().value().inodes, number + 1 - dead);
    }
    const auto dropped = catalog->commit({DropName{{1}, std::to_string(dead)}, DropInode{{dead}}});
    ASSERT_TRUE(dropped) << dead << " of " << number << ": " << dropped.error();
  }
  EXPECT_TRUE(catalog->commit(making_large(number)));
  EXPECT_THAT(catalog->check().value(), IsEmpty());
  EXPECT_EQ(catalog->totals().value().inodes, 2U);
}

TEST_F(JournaledCatalogTest, AVolumeWithoutAJournalOpensOnAFullDiskAndGetsOneLater) {
  const SmallDisk disk(dir_ / "disk");
  if (!disk.is_mounted()) GTEST_SKIP() << "needs to mount a tmpfs";
  const auto journal = dir_ / "disk" / "catalog.journal";
  {
    const auto old = open_sqlite_catalog(dir_ / "disk" / "catalog.db").value();
    ASSERT_TRUE(old->commit({PutInode{directory(1)}}));
    ASSERT_TRUE(old->commit(making(2)));
  }
  disk.fill();
  const auto catalog = open_volume_catalog(dir_ / "disk").value();
  EXPECT_EQ(std::filesystem::file_size(journal), 0U);
  const auto dropped = catalog->commit({DropName{{1}, "2"}, DropInode{{2}}});
  EXPECT_TRUE(dropped) << dropped.error();
  std::filesystem::remove(dir_ / "disk" / "filler");
  ASSERT_TRUE(catalog->scrub());
  EXPECT_EQ(std::filesystem::file_size(journal), kJournalBytes);
  ASSERT_TRUE(catalog->commit(making(3)));
  EXPECT_EQ(catalog->totals().value().inodes, 2U);
  EXPECT_THAT(catalog->check().value(), IsEmpty());
}

TEST_F(JournaledCatalogTest, WhatAKillLeftInTheJournalIsScrubbedByTheNextRun) {
  MarkedKeys keys;
  for (int step = 0; step < 300; ++step) ASSERT_TRUE(catalog_->commit(keys.next_changes()));
  const auto crashed = crash();
  EXPECT_FALSE(keys.find_in(crashed).dead.empty()) << "else this shows nothing";
  const auto catalog = try_open(crashed).value();
  ASSERT_TRUE(catalog->scrub());
  const auto found = keys.find_in(crashed);
  EXPECT_THAT(found.dead, IsEmpty());
  EXPECT_EQ(found.living.size(), keys.living());
}

}  // namespace
}  // namespace ephfs::meta::testing
