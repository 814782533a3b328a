// SPDX-License-Identifier: Apache-2.0
// A share from its making to its end: the engine that makes it, the nodes that hold it, and the reader behind a link.
#include <fcntl.h>

#include "fs/manifest_reader.hpp"
#include "meta/shared_file.hpp"
#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

class SharingTest : public ::testing::Test {
 protected:
  SharingTest() {
    volume.options.profile = core::Profile{2, 1};
    volume.options.ttl.initial = 1h;
    volume.open();
    volume.start();
  }
  ShareWish wish(std::uint32_t fetches_max = 0) {
    ShareWish made;
    made.name = "f";
    made.fetches_max = fetches_max;
    for (std::size_t i = 0; i < volume.peers.peers.size(); ++i) {
      made.holders.push_back({volume.peers.peers[i], "node" + std::to_string(i) + ":1"});
    }
    return made;
  }
  Result<SharedLink> share(InodeNumber number, ShareWish made) {
    return volume.run(volume.engine().share(number, std::move(made)));
  }
  Result<net::TakenShare> take(const net::ShareLink& link, std::size_t holder = 0) {
    const auto peer = volume.peers.find(link.holders[holder].id);
    const net::CallLimits limits{volume.clock.boot_now() + 10s, {}};
    return volume.run(peer->take_share({link.share, core::share_token(link.secret, link.share)}, limits));
  }
  /// What somebody with the link gets: the file's bytes.
  Result<std::string> fetch(const net::ShareLink& link) {
    EPHFS_TRY(const auto taken, take(link));
    EPHFS_TRY(auto file, meta::open_shared_file(taken.content.view(), link.secret, link.share));
    EPHFS_TRY(auto manifest, meta::open_manifest(file.manifest));
    std::string content(manifest.size, '\0');
    ManifestReader reader({volume.peers, volume.clock, volume.context.get_executor()}, std::move(manifest),
                          std::move(file.key));
    data_bytes_ = 0;
    ManifestReader::Sink sink = [&](std::uint64_t offset, core::ByteView bytes) -> Result<> {
      data_bytes_ += bytes.size();
      content.replace(offset, bytes.size(), core::as_text(bytes));
      return {};
    };
    const auto read = volume.run(reader.read_all(std::move(sink), {}));
    if (!read) return read.error();
    return content;
  }
  std::string text(std::size_t size) {
    const auto bytes = random_.bytes(size);
    return std::string(core::as_text(bytes));
  }
  std::size_t shares() {
    std::size_t count = 0;
    for (const auto& node : volume.nodes) count += node->shares->size();
    return count;
  }

  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
  TestVolume volume{5};
  std::uint64_t data_bytes_ = 0;
  static constexpr InodeNumber kRoot = core::kRootInode;
};

TEST_F(SharingTest, GivesTheFileToWhoeverHasTheLink) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{100'000}, (std::size_t{9} << 20U) + 77}) {
    const std::string content = text(size);
    const auto made = volume.write_file(kRoot, "f" + std::to_string(size), content);
    const auto shared = share(made.number, wish());
    ASSERT_TRUE(shared) << shared.error();
    EXPECT_EQ(shared->link.holders.size(), 3U);
    EXPECT_EQ(shared->link.deadline.instant(), volume.expires(made.number));
    const auto got = fetch(shared->link);
    ASSERT_TRUE(got) << got.error();
    EXPECT_TRUE(*got == content) << size << " bytes";
  }
}

TEST_F(SharingTest, FlushesAndPlacesWhatIsStillInMemory) {
  auto created = volume.engine().create(kRoot, "f", 0644, O_RDWR, {}).value();
  const std::string content = text(50'000);
  ASSERT_TRUE(volume.engine().try_write(*created.second, 0, core::as_bytes(content)));
  const auto shared = share(created.first.number, wish());
  ASSERT_TRUE(shared) << shared.error();
  EXPECT_TRUE(fetch(shared->link).value() == content);
  volume.engine().release(created.second);
}

TEST_F(SharingTest, ReadsFilesInPiecesAndWithHoles) {
  auto created = volume.engine().create(kRoot, "f", 0644, O_RDWR, {}).value();
  const std::size_t size = std::size_t{6} << 20U;
  std::string content(size, '\0');
  for (int i = 0; i < 60; ++i) {
    const std::size_t at = random_.below(size - 70'000);
    const std::string piece = text(random_.between(1, 70'000));
    content.replace(at, piece.size(), piece);
    ASSERT_TRUE(volume.engine().try_write(*created.second, at, core::as_bytes(piece)));
    if (i % 10 == 9) {
      ASSERT_TRUE(volume.run(volume.engine().fsync(created.second)));
    }
  }
  content.resize(std::max(content.find_last_not_of('\0') + 1, std::size_t{1}));
  ASSERT_TRUE(volume.engine().set_attributes(created.first.number, with_size(content.size()), false));
  const auto shared = share(created.first.number, wish());
  ASSERT_TRUE(shared) << shared.error();
  EXPECT_TRUE(fetch(shared->link).value() == content);
  EXPECT_LT(data_bytes_, content.size()) << "holes are not fetched";
  volume.engine().release(created.second);
}

TEST_F(SharingTest, CountsOnOneNode) {
  const auto made = volume.write_file(kRoot, "f", "content");
  const auto shared = share(made.number, wish(2));
  ASSERT_TRUE(shared) << shared.error();
  EXPECT_EQ(shared->link.holders.size(), 1U);
  EXPECT_EQ(shares(), 1U);
  EXPECT_EQ(fetch(shared->link).value(), "content");
  EXPECT_EQ(fetch(shared->link).value(), "content");
  EXPECT_EQ(fetch(shared->link).error().code, core::Error::quota_exceeded);
}

TEST_F(SharingTest, EndsWithItsOwnTtlAndNeverAfterTheFile) {
  const auto made = volume.write_file(kRoot, "f", "content");
  ShareWish brief = wish();
  brief.ttl = 10min;
  const auto shared = share(made.number, brief);
  ASSERT_TRUE(shared) << shared.error();
  EXPECT_FALSE(shared->ends_with_file);
  ShareWish endless = wish();
  endless.ttl = core::Milliseconds::max();
  const auto cut = share(made.number, endless);
  ASSERT_TRUE(cut) << cut.error();
  EXPECT_TRUE(cut->ends_with_file);
  EXPECT_EQ(cut->link.deadline.instant(), volume.expires(made.number));
  volume.clock.run_for(10min);
  EXPECT_EQ(take(shared->link).error().code, core::Error::not_found);
  EXPECT_TRUE(take(cut->link));
  volume.clock.run_for(50min);
  EXPECT_EQ(take(cut->link).error().code, core::Error::not_found);
}

TEST_F(SharingTest, IsTakenBackWhenTheFileLosesItsLastName) {
  const auto made = volume.write_file(kRoot, "f", "content");
  ASSERT_TRUE(volume.engine().make_link(made.number, kRoot, "second"));
  ASSERT_TRUE(share(made.number, wish()));
  ASSERT_TRUE(share(made.number, wish(5)));
  EXPECT_EQ(shares(), 4U);
  ASSERT_TRUE(volume.engine().unlink(kRoot, "f"));
  volume.clock.run_for(1s);
  EXPECT_EQ(shares(), 4U);
  ASSERT_TRUE(volume.engine().unlink(kRoot, "second"));
  volume.clock.run_for(1s);
  EXPECT_EQ(shares(), 0U);
}

// As when a file is removed while it is being shared.
TEST_F(SharingTest, IsTakenBackByTheLoopsOwnThread) {
  const auto made = volume.write_file(kRoot, "f", "content");
  ASSERT_TRUE(share(made.number, wish()));
  auto unlink = [](Engine* engine) -> core::awaitable<Result<>> { co_return engine->unlink(kRoot, "f"); };
  EXPECT_TRUE(volume.run(unlink(&volume.engine())));
  volume.clock.run_for(1s);
  EXPECT_EQ(shares(), 0U);
}

TEST_F(SharingTest, IsTakenBackFromAnOpenFileToo) {
  auto created = volume.engine().create(kRoot, "f", 0644, O_RDWR, {}).value();
  ASSERT_TRUE(share(created.first.number, wish()));
  ASSERT_TRUE(volume.engine().unlink(kRoot, "f"));
  volume.clock.run_for(1s);
  EXPECT_EQ(shares(), 0U);
  EXPECT_FALSE(share(created.first.number, wish()));
  volume.engine().release(created.second);
}

TEST_F(SharingTest, IsTakenBackWhenTheFileIsGivenLessTime) {
  const auto made = volume.write_file(kRoot, "f", "content");
  ASSERT_TRUE(share(made.number, wish()));
  ShareWish brief = wish();
  brief.ttl = 10min;
  ASSERT_TRUE(share(made.number, brief));
  ASSERT_TRUE(volume.set_xattr(made.number, "user.ephfs.ttl", "20m"));
  volume.clock.run_for(1s);
  EXPECT_EQ(shares(), 3U) << "the one that ends before the file stays";
}

TEST_F(SharingTest, IsTakenBackAfterARestart) {
  const auto made = volume.write_file(kRoot, "f", "content");
  ASSERT_TRUE(share(made.number, wish()));
  volume.close();
  volume.open();
  ASSERT_TRUE(volume.engine().unlink(kRoot, "f"));  // nothing runs yet: the order is not sent
  volume.reopen();
  volume.start();
  volume.clock.run_for(1s);
  EXPECT_EQ(shares(), 0U);
}

TEST_F(SharingTest, SaysThatTheFileHasChangedSince) {
  const auto made = volume.write_file(kRoot, "f", text(100'000));
  const auto shared = share(made.number, wish());
  ASSERT_TRUE(shared);
  const auto file = volume.engine().open_file(made.number, O_RDWR).value();
  ASSERT_TRUE(volume.engine().set_attributes(made.number, with_size(0), false));
  ASSERT_TRUE(volume.engine().try_write(*file, 0, core::as_bytes("other")));
  ASSERT_TRUE(volume.run(volume.engine().fsync(file)));
  volume.engine().release(file);
  volume.clock.run_for(2min);
  const auto got = fetch(shared->link);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, core::Error::not_found);
  EXPECT_NE(got.error().detail.find("changed or deleted"), std::string::npos) << got.error();
}

TEST_F(SharingTest, OpensNothingButItsOwnFile) {
  const auto one = share(volume.write_file(kRoot, "one", "first").number, wish());
  const auto two = share(volume.write_file(kRoot, "two", "second").number, wish());
  ASSERT_TRUE(one);
  ASSERT_TRUE(two);
  const auto taken = take(two->link);
  ASSERT_TRUE(taken);
  EXPECT_FALSE(meta::open_shared_file(taken->content.view(), one->link.secret, two->link.share));
  EXPECT_FALSE(meta::open_shared_file(taken->content.view(), one->link.secret, one->link.share));
  const auto peer = volume.peers.find(two->link.holders[0].id);
  const net::CallLimits limits{volume.clock.boot_now() + 10s, {}};
  const auto guess =
      volume.run(peer->take_share({two->link.share, core::share_token(one->link.secret, two->link.share)}, limits));
  EXPECT_EQ(guess.error().code, core::Error::not_permitted);
  // The key of one file in the stripes of the other: AEAD refuses.
  auto opened = meta::open_shared_file(taken->content.view(), two->link.secret, two->link.share).value();
  auto manifest = meta::open_manifest(opened.manifest).value();
  const auto first = take(one->link).value();
  auto other = meta::open_shared_file(first.content.view(), one->link.secret, one->link.share).value();
  ManifestReader reader({volume.peers, volume.clock, volume.context.get_executor()}, std::move(manifest),
                        std::move(other.key));
  ManifestReader::Sink sink = [](std::uint64_t, core::ByteView) -> Result<> {
    ADD_FAILURE() << "something was opened";
    return {};
  };
  EXPECT_EQ(volume.run(reader.read_all(std::move(sink), {})).error().code, core::Error::damaged);
}

TEST_F(SharingTest, RefusesWhatCannotBeShared) {
  const auto directory = volume.engine().make_node(kRoot, "d", S_IFDIR | 0755, 0, {}).value();
  EXPECT_EQ(share(directory.number, wish()).error().code, core::Error::invalid_argument);
  EXPECT_EQ(share({4711}, wish()).error().code, core::Error::not_found);
  const auto made = volume.write_file(kRoot, "f", "content");
  ShareWish nobody = wish();
  nobody.holders.clear();
  EXPECT_EQ(share(made.number, nobody).error().code, core::Error::invalid_argument);
  ShareWish nameless = wish();
  nameless.name = "a/b";
  EXPECT_EQ(share(made.number, nameless).error().code, core::Error::invalid_argument);
  EXPECT_EQ(shares(), 0U);
  volume.engine().refuse_shares();
  EXPECT_EQ(share(made.number, wish()).error().code, core::Error::cancelled);
}

}  // namespace
}  // namespace ephfs::fs::testing
