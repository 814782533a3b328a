// SPDX-License-Identifier: Apache-2.0
// Shares on disk: what a crash, damage or a restart may leave, and that no count ever goes back.
#include "node/share_store.hpp"

#include <csignal>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/little_endian.hpp"
#include "tests/node/node_test_support.hpp"

namespace ephfs::node::testing {
namespace {

constexpr core::Instant kNow{1'000'000};
constexpr core::Boottime kBoot{0};

class ShareStoreTest : public ::testing::Test {
 protected:
  struct Made {
    core::ShareGrant grant;
    core::Envelope envelope;
    core::Bytes content;
    core::Hash token;
  };
  Made make(std::uint32_t fetches_max, std::size_t bytes = 1000,
            core::Instant deadline = kNow + std::chrono::hours(1)) {
    Made made;
    made.content = random_.bytes(bytes);
    random_.fill(made.grant.share.mutable_view());
    random_.fill(made.grant.node.mutable_view());
    random_.fill(made.token.mutable_view());
    made.grant.owner = owner_id_of(owner_);
    made.grant.deadline = core::Deadline(deadline);
    made.grant.fetches_max = fetches_max;
    made.grant.token_hash = *core::Hash::from_bytes(core::sha256(made.token.view()).view());
    made.grant.content_hash = *core::Hash::from_bytes(core::sha256(made.content).view());
    made.grant.content_bytes = bytes;
    made.envelope = core::sign_share_grant(made.grant, owner_);
    return made;
  }
  void open(core::Instant now = kNow) {
    store_.reset();
    auto opened = ShareStore::open(directory_.path(), now);
    ASSERT_TRUE(opened) << opened.error();
    store_ = *std::move(opened);
  }
  Result<> put(const Made& made) { return store_->put(made.grant, made.envelope, made.content); }
  Result<net::TakenShare> take(const Made& made, core::Instant now = kNow) {
    return store_->take({made.grant.share, made.token}, now, kBoot);
  }
  std::filesystem::path file(const Made& made, const char* extension) {
    return directory_ / "shares" / (made.grant.share.hex() + extension);
  }
  std::size_t files() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_ / "shares")) ++count;
    return count;
  }

  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
  core::Signer owner_ = make_signer(random_);
  TempDir directory_;
  std::unique_ptr<ShareStore> store_;
};

TEST_F(ShareStoreTest, KeepsSharesAndCountsOverRestarts) {
  open();
  const Made counted = make(3);
  const Made free = make(0);
  ASSERT_TRUE(put(counted));
  ASSERT_TRUE(put(free));
  for (const std::uint32_t left : {2U, 1U, 0U}) {
    const auto taken = take(counted);
    ASSERT_TRUE(taken) << taken.error();
    EXPECT_EQ(taken->fetches_left, left);
    EXPECT_TRUE(std::ranges::equal(taken->content.view(), counted.content));
    open();
    ASSERT_TRUE(take(free));
  }
  EXPECT_EQ(take(counted).error().code, core::Error::quota_exceeded);
  struct stat status {};
  ASSERT_EQ(::stat(file(counted, ".share").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

// The process dies at any moment around a take: a fetch may be lost, but none is ever won.
TEST_F(ShareStoreTest, NeverCountsBackWhenItIsKilled) {
  constexpr std::uint32_t kFetches = 40;
  open();
  const Made made = make(kFetches);
  ASSERT_TRUE(put(made));
  std::uint32_t given = 0;
  for (int round = 0; round < 60; ++round) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      // What it took, it says; then it goes without a word.
      const auto opened = ShareStore::open(directory_.path(), kNow);
      for (std::uint64_t i = 0; opened && i <= static_cast<std::uint64_t>(round % 3); ++i) {
        if (!(*opened)->take({made.grant.share, made.token}, kNow, kBoot)) break;
        if (::write(ends[1], "x", 1) != 1) break;
      }
      ::_exit(0);
    }
    ::close(ends[1]);
    char byte = 0;
    // Killed in the middle of what it does, every other time.
    if (round % 2 == 0 && ::read(ends[0], &byte, 1) == 1) {
      ++given;
      ::kill(child, SIGKILL);
    }
    while (::read(ends[0], &byte, 1) == 1) ++given;
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
  }
  EXPECT_LE(given, kFetches);
  open();
  EXPECT_EQ(take(made).error().code, core::Error::quota_exceeded);
}

TEST_F(ShareStoreTest, CleansUpWhatACrashLeft) {
  open();
  const Made kept = make(2);
  const Made orphan = make(2);
  ASSERT_TRUE(put(kept));
  ASSERT_TRUE(put(orphan));
  std::filesystem::remove(file(orphan, ".share"));
  std::ofstream(directory_ / "shares" / ".ephfs-new-abcdef") << "half";
  std::ofstream(directory_ / "shares" / "somebody's notes") << "left alone";
  open();
  EXPECT_FALSE(std::filesystem::exists(file(orphan, ".taken")));
  EXPECT_EQ(files(), 3U);
  EXPECT_TRUE(take(kept));
}

TEST_F(ShareStoreTest, DoesNotGiveOutACountedShareThatLostItsCount) {
  open();
  const Made made = make(2);
  ASSERT_TRUE(put(made));
  std::filesystem::remove(file(made, ".taken"));
  EXPECT_FALSE(take(made));
  open();
  EXPECT_EQ(take(made).error().code, core::Error::not_found);
  EXPECT_EQ(files(), 0U);
}

TEST_F(ShareStoreTest, DeletesWhatIsDamaged) {
  open();
  const Made made = make(2, 300);
  ASSERT_TRUE(put(made));
  const auto path = file(made, ".share");
  const auto whole = core::read_file(path, 1 << 20).value();
  for (std::size_t at = 0; at < whole.size(); at += 11) {
    auto damaged = whole;
    damaged[at] ^= std::byte{0x20};
    ASSERT_TRUE(core::replace_file(path, damaged, 0600));
    EXPECT_EQ(take(made).error().code, at >= 8 && at < 12 ? core::Error::version : core::Error::damaged)
        << "byte " << at;
    if (at >= 8 && at < 12) continue;
    open();
    EXPECT_EQ(store_->size(), 0U) << "byte " << at;
    ASSERT_TRUE(put(made));
  }
  for (std::size_t size = 0; size < whole.size(); size += 37) {
    ASSERT_TRUE(core::replace_file(path, core::ByteView(whole).first(size), 0600));
    open();
    EXPECT_EQ(store_->size(), 0U) << size << " bytes";
  }
  EXPECT_EQ(files(), 0U);
}

TEST_F(ShareStoreTest, CountsNothingForWhatItCannotGive) {
  open();
  const Made made = make(1);
  ASSERT_TRUE(put(made));
  flip_byte_in_file(file(made, ".share"), 500);
  EXPECT_EQ(take(made).error().code, core::Error::damaged);
  flip_byte_in_file(file(made, ".share"), 500);
  EXPECT_TRUE(take(made));
}

TEST_F(ShareStoreTest, LeavesALaterFormatAlone) {
  open();
  const Made made = make(0);
  ASSERT_TRUE(put(made));
  flip_byte_in_file(file(made, ".share"), 8);
  const auto opened = ShareStore::open(directory_.path(), kNow);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, core::Error::version);
  EXPECT_NE(opened.error().detail.find(made.grant.share.hex()), std::string::npos);
}

TEST_F(ShareStoreTest, DeletesAtTheDeadline) {
  open();
  std::vector<Made> all;
  for (int i = 0; i < 5; ++i) {
    all.push_back(make(1, 100, kNow + std::chrono::seconds(10 * (i + 1))));
    ASSERT_TRUE(put(all.back()));
  }
  EXPECT_EQ(store_->next_deadline(), all[0].grant.deadline);
  EXPECT_EQ(store_->remove_expired(kNow, 9).deleted, 0U);
  EXPECT_EQ(take(all[0], kNow + std::chrono::seconds(10)).error().code, core::Error::not_found);
  EXPECT_EQ(store_->remove_expired(kNow + std::chrono::seconds(30), 2).deleted, 2U);
  EXPECT_EQ(store_->remove_expired(kNow + std::chrono::seconds(30), 9).deleted, 1U);
  EXPECT_EQ(files(), 4U);
  // One that ended while nobody was there goes at the start.
  open(kNow + std::chrono::seconds(40));
  EXPECT_EQ(store_->size(), 1U);
  EXPECT_EQ(files(), 2U);
}

TEST_F(ShareStoreTest, BoundsWhatItKeeps) {
  open();
  for (std::size_t i = 0; i < kSharesBytesMax / core::kShareBytesMax; ++i) {
    Made made = make(0, 1);
    made.grant.content_bytes = core::kShareBytesMax;  // as it would count
    ASSERT_TRUE(store_->put(made.grant, made.envelope, made.content)) << i;
  }
  EXPECT_EQ(put(make(0, 1)).error().code, core::Error::no_space);
}

}  // namespace
}  // namespace ephfs::node::testing
