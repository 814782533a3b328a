// SPDX-License-Identifier: Apache-2.0
// What only the store on files does: leftovers of crashes, damaged files, linked files, full disks, one process at a
// time.
#include <sys/mount.h>
#include <sys/stat.h>

#include "node/lease_file.hpp"
#include "tests/node/node_test_support.hpp"

namespace ephfs::node::testing {
namespace {

namespace files = std::filesystem;

class FileShardStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { reopen(); }
  void reopen() {
    store_.reset();
    auto opened = open_file_shard_store(directory_.path(), kSampleCapacity, kStart);
    ASSERT_TRUE(opened) << opened.error();
    store_ = std::move(*opened);
  }
  core::Result<> put(const SampleShard& shard, const net::ShardSource& source) {
    return store_->put(lease(shard), source);
  }
  core::Result<> put(const SampleShard& shard) { return put(shard, shard.source); }
  HeldLease lease(const SampleShard& shard) const {
    return make_held(make_lease(shard, {}, owner_, kStart + std::chrono::seconds{1}), owner_);
  }
  core::Result<net::ShardRange> get(const SampleShard& shard) const {
    return store_->get({.shard = shard.id, .offset = 0, .length = shard.bytes(), .with_proof = true});
  }
  void expect_whole(const SampleShard& shard) const {
    const auto got = get(shard);
    ASSERT_TRUE(got) << got.error();
    EXPECT_TRUE(std::ranges::equal(got->bytes.view(), shard.source.bytes.view()));
  }
  static void write(const files::path& path, core::ByteView content) {
    files::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << core::as_text(content);
  }
  [[nodiscard]] files::path shard_path(const SampleShard& shard) const {
    return shard_file(directory_.path(), shard.id);
  }
  [[nodiscard]] files::path lease_path(const SampleShard& shard) const {
    return lease_file(directory_.path(), shard.id);
  }

  const TempDir directory_;
  Random random_;
  core::Signer owner_ = make_signer(random_);
  std::unique_ptr<FileShardStore> store_;
};

TEST_F(FileShardStoreTest, LetsOneProcessIn) {
  const auto second = open_file_shard_store(directory_.path(), kSampleCapacity, kStart);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, core::Error::busy);
  store_.reset();
  EXPECT_TRUE(open_file_shard_store(directory_.path(), kSampleCapacity, kStart));
}

TEST_F(FileShardStoreTest, KeepsFilesToItself) {
  const SampleShard shard = make_shard(random_, 5000);
  ASSERT_TRUE(put(shard));
  for (const auto& path : shard_files(directory_.path())) {
    EXPECT_EQ(files::status(path).permissions() & files::perms::mask, files::perms(0600)) << path;
  }
  EXPECT_EQ(files::status(directory_ / "shards").permissions() & files::perms::mask, files::perms(0700));
}

// Every state of the two names that a put or a removal can be cut off in.
TEST_F(FileShardStoreTest, CleansUpWhatACrashLeft) {
  std::vector<SampleShard> shards;
  for (int i = 0; i < 6; ++i) shards.push_back(make_shard(random_, 9000));
  const auto lease_bytes = [&](const SampleShard& shard) {
    return encode_lease_file(lease(shard), shard.tree().leaves());
  };
  store_.reset();
  const auto half = [](core::ByteView bytes) { return bytes.first(bytes.size() / 2); };
  // A half shard, then a whole one, then a half lease, under temporary names.
  write(shard_path(shards[0]).string() + ".tmp", half(shards[0].source.bytes.view()));
  write(shard_path(shards[1]).string() + ".tmp", shards[1].source.bytes.view());
  write(shard_path(shards[2]).string() + ".tmp", shards[2].source.bytes.view());
  write(lease_path(shards[2]).string() + ".tmp", half(lease_bytes(shards[2])));
  // Only the shard renamed; then only the lease's name is left of a removal; then a put that was done.
  write(shard_path(shards[3]), shards[3].source.bytes.view());
  write(lease_path(shards[3]).string() + ".tmp", lease_bytes(shards[3]));
  write(lease_path(shards[4]), lease_bytes(shards[4]));
  write(shard_path(shards[5]), shards[5].source.bytes.view());
  write(lease_path(shards[5]), lease_bytes(shards[5]));
  // And a renewal that was cut off.
  write(lease_path(shards[5]).string() + ".tmp", half(lease_bytes(shards[5])));

  reopen();
  EXPECT_EQ(store_->usage().shards, 1U);
  expect_whole(shards[5]);
  EXPECT_THAT(shard_files(directory_.path()),
              ::testing::UnorderedElementsAre(shard_path(shards[5]), lease_path(shards[5]), lease_path(shards[4])));
  const auto traces = store_->traces(10);
  ASSERT_EQ(traces.size(), 1U) << "of the removal";
  EXPECT_EQ(traces[0].lease.shard, shards[4].id);
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(put(shards[static_cast<std::size_t>(i)]));
    expect_whole(shards[static_cast<std::size_t>(i)]);
  }
}

TEST_F(FileShardStoreTest, LeavesFilesOfOthersAlone) {
  store_.reset();
  const files::path stranger = directory_ / "shards/ab/notes.txt";
  write(stranger, core::as_bytes("mine"));
  write(directory_ / "shards/README", core::as_bytes("mine too"));
  reopen();
  EXPECT_TRUE(files::exists(stranger));
  EXPECT_TRUE(files::exists(directory_ / "shards/README"));
}

TEST_F(FileShardStoreTest, DeletesAShardWhoseLeaseIsDamaged) {
  const SampleShard flipped = make_shard(random_, 5000);
  const SampleShard cut = make_shard(random_, 5000);
  const SampleShard swapped = make_shard(random_, 5000);
  const SampleShard sound = make_shard(random_, 5000);
  for (const auto* shard : {&flipped, &cut, &swapped, &sound}) ASSERT_TRUE(put(*shard));
  store_.reset();
  flip_byte_in_file(lease_path(flipped), 50);
  files::resize_file(lease_path(cut), 100);
  files::copy_file(lease_path(sound), lease_path(swapped), files::copy_options::overwrite_existing);
  ::testing::internal::CaptureStderr();
  reopen();
  const std::string log = ::testing::internal::GetCapturedStderr();
  for (const auto* shard : {&flipped, &cut, &swapped}) {
    EXPECT_FALSE(store_->find(shard->id));
    EXPECT_FALSE(files::exists(shard_path(*shard)));
    EXPECT_FALSE(files::exists(lease_path(*shard)));
    EXPECT_NE(log.find(shard->id.hex()), std::string::npos) << log;
  }
  EXPECT_EQ(std::ranges::count(log, '\n'), 3) << log;
  expect_whole(sound);
}

TEST_F(FileShardStoreTest, DoesNotTouchALaterVersion) {
  const SampleShard shard = make_shard(random_, 5000);
  ASSERT_TRUE(put(shard));
  store_.reset();
  std::fstream file(lease_path(shard), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(8);
  file.put(2);
  file.close();
  const auto opened = open_file_shard_store(directory_.path(), kSampleCapacity, kStart);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, core::Error::version);
  EXPECT_NE(opened.error().detail.find(shard.id.hex()), std::string::npos);
  EXPECT_TRUE(files::exists(shard_path(shard)));
}

TEST_F(FileShardStoreTest, NamesAShardWithDamagedLeafHashes) {
  const SampleShard shard = make_shard(random_, 5000);
  ASSERT_TRUE(put(shard));
  flip_byte_in_file(lease_path(shard), files::file_size(lease_path(shard)) - 1);
  reopen();
  const auto got = get(shard);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, core::Error::damaged);
  EXPECT_NE(got.error().detail.find(shard.id.hex()), std::string::npos);
}

TEST_F(FileShardStoreTest, NamesAShardThatIsCutShort) {
  const SampleShard shard = make_shard(random_, 9000);
  ASSERT_TRUE(put(shard));
  files::resize_file(shard_path(shard), 8999);
  const auto got = get(shard);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, core::Error::damaged);
  EXPECT_NE(got.error().detail.find(shard.id.hex()), std::string::npos);
}

TEST_F(FileShardStoreTest, LinksAStagedFile) {
  const SampleShard shard = make_shard(random_, 70'000);
  const files::path staged = directory_ / "staged";
  write(staged, shard.source.bytes.view());
  net::ShardSource source = shard.source;
  source.file = staged;
  ASSERT_TRUE(put(shard, source));
  EXPECT_EQ(files::hard_link_count(shard_path(shard)), 2U);
  files::remove(staged);
  reopen();
  expect_whole(shard);
  EXPECT_EQ(store_->usage().used, 70'000U);
}

TEST_F(FileShardStoreTest, WritesWhereAStagedFileIsOfNoUse) {
  const SampleShard first = make_shard(random_, 7000);
  const SampleShard second = make_shard(random_, 7000);
  net::ShardSource source = first.source;
  source.file = directory_ / "missing";
  ASSERT_TRUE(put(first, source));
  expect_whole(first);
  source = second.source;
  source.file = directory_ / "longer";
  write(source.file, core::Bytes(7001));
  ASSERT_TRUE(put(second, source));
  expect_whole(second);
}

// rename(2) between two names of one file does nothing and leaves both.
TEST_F(FileShardStoreTest, LeavesNoTemporaryWhenALinkIsThereAlready) {
  const SampleShard shard = make_shard(random_, 7000);
  net::ShardSource source = shard.source;
  source.file = directory_ / "staged";
  write(source.file, shard.source.bytes.view());
  files::create_directories(shard_path(shard).parent_path());
  files::create_hard_link(source.file, shard_path(shard));
  ASSERT_TRUE(put(shard, source));
  EXPECT_THAT(shard_files(directory_.path()), ::testing::UnorderedElementsAre(shard_path(shard), lease_path(shard)));
}

TEST_F(FileShardStoreTest, LeavesNothingBehindOnAFullDisk) {
  const files::path disk = directory_ / "disk";
  files::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=1m") != 0) GTEST_SKIP() << "needs to mount a tmpfs";
  struct Unmount {
    files::path path;
    ~Unmount() { ::umount(path.c_str()); }
  } const unmount{disk};

  auto small = open_file_shard_store(disk, kSampleCapacity, kStart).value();
  std::vector<SampleShard> kept;
  core::Result<> last;
  SampleShard refused;
  for (int i = 0; i < 20 && last; ++i) {
    refused = make_shard(random_, 150'000);
    last = small->put(lease(refused), refused.source);
    if (last) kept.push_back(refused);
  }
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().code, core::Error::no_space) << last.error();
  ASSERT_GE(kept.size(), 2U);
  EXPECT_EQ(shard_files(disk).size(), 2 * kept.size());
  EXPECT_EQ(small->usage().used, kept.size() * 150'000);
  EXPECT_FALSE(small->find(refused.id));

  ASSERT_TRUE(small->remove(kept[0].id, RemovalSync::synced));
  EXPECT_TRUE(small->put(lease(refused), refused.source));
  for (std::size_t i = 1; i < kept.size(); ++i) {
    EXPECT_TRUE(small->get({.shard = kept[i].id, .offset = 0, .length = 150'000, .with_proof = false}));
  }
}

TEST_F(FileShardStoreTest, TakesNoMoreThanItHoldsWhenItsCapacityShrinks) {
  const SampleShard shard = make_shard(random_, 9000);
  ASSERT_TRUE(put(shard));
  store_.reset();
  auto smaller = open_file_shard_store(directory_.path(), 5000, kStart).value();
  EXPECT_EQ(smaller->usage().used, 9000U);
  const SampleShard tiny = make_shard(random_, 1);
  EXPECT_EQ(smaller->put(lease(tiny), tiny.source).error().code, core::Error::no_space);
}

}  // namespace
}  // namespace ephfs::node::testing
