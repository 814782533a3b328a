// SPDX-License-Identifier: Apache-2.0
// The data path on real threads and the machine's clock: what a virtual clock cannot show. Nothing here is timed.
#include <thread>

#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <sys/stat.h>

#include "tests/fs/stripes_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

using core::Error;

/// Six machines and a volume on a pool of threads.
class ThreadedVolume {
 public:
  ThreadedVolume() {
    for (int i = 0; i < 6; ++i) {
      machines_.push_back(std::make_unique<Machine>(clock_, threads_.get_executor(), nullptr));
      pool_.peers.emplace_back(std::shared_ptr<net::Peer>(), &machines_.back()->peer);
    }
    options.directory = directory_.path();
    options.seal_age = 20ms;
    options.cache_bytes = 8U << 20U;
    options.staging_bytes = 16U << 20U;
    catalog = *meta::open_sqlite_catalog(directory_ / "catalog");
    stripes = *Stripes::open({options, *catalog, pool_, owner_, clock_, threads_.get_executor()});
    stripes->start();
  }
  ~ThreadedVolume() {
    run_void(stripes->stop());
    for (auto& machine : machines_) run_void(machine->node.stop());
    threads_.join();
  }
  ThreadedVolume(const ThreadedVolume&) = delete;
  ThreadedVolume& operator=(const ThreadedVolume&) = delete;

  Result<> run(core::awaitable<Result<>> call) {
    return core::asio::co_spawn(threads_, std::move(call), core::asio::use_future).get();
  }
  [[nodiscard]] core::Boottime soon() const { return clock_.boot_now() + core::Nanoseconds(60s); }

  EngineOptions options;
  std::unique_ptr<meta::Catalog> catalog;
  std::unique_ptr<Stripes> stripes;

 private:
  void run_void(core::awaitable<void> call) {
    core::asio::co_spawn(threads_, std::move(call), core::asio::use_future).get();
  }

  TempDir directory_;
  core::SystemClock clock_;
  core::asio::thread_pool threads_{3};
  std::vector<std::unique_ptr<Machine>> machines_;
  Pool pool_;
  core::Signer owner_{core::random_key()};
};

/// One thread's file: appends, reads back, makes safe.
class Worker {
 public:
  Worker(ThreadedVolume& volume, std::uint64_t seed, InodeNumber inode)
      : volume_(volume), random_(seed), inode_(inode) {}

  void operator()() {
    meta::InodeRecord record;
    record.number = inode_;
    record.mode = S_IFREG | 0600;
    record.file = file_;
    record.deadline = deadline_;
    ASSERT_TRUE(volume_.catalog->commit({meta::PutInode{record}}));
    for (int round = 0; round < 40; ++round) {
      append(random_.between(1, random_.chance(8) ? kStripeBytes + 1000 : 200'000));
      check(extents_[random_.below(extents_.size())]);
      if (random_.chance(6)) settle();
      if (random_.chance(6)) volume_.stripes->prefetch(extents_[random_.below(extents_.size())].stripe);
      if (random_.chance(10)) (void)volume_.stripes->counters();
      if (round % 13 == 12) drop_all();
    }
    for (const auto& extent : extents_) check(extent);
    settle();
  }

 private:
  void append(std::size_t bytes) {
    const core::Bytes content = random_.bytes(bytes);
    for (;;) {
      StageRequest request;
      request.inode = inode_;
      request.cipher = {file_, &key_};
      request.deadline = deadline_;
      request.ttl = 1h;
      request.runs = {{content_.size(), content}};
      const auto staged = volume_.stripes->stage(request);
      if (!staged) {
        ASSERT_EQ(staged.error().code, Error::would_block) << staged.error();
        const auto room = volume_.run(volume_.stripes->room(volume_.soon()));
        ASSERT_TRUE(room) << room.error();
        continue;
      }
      meta::Changes changes = staged->changes;
      for (const auto& extent : staged->extents) changes.emplace_back(meta::PutExtent{extent});
      ASSERT_TRUE(volume_.catalog->commit(changes));
      extents_.insert(extents_.end(), staged->extents.begin(), staged->extents.end());
      content_.insert(content_.end(), content.begin(), content.end());
      return;
    }
  }
  void check(const meta::ExtentRecord& extent) {
    core::Bytes got(extent.length);
    const net::CallLimits limits{volume_.soon(), {}};
    const auto read =
        volume_.run(volume_.stripes->read(extent, {file_, &key_}, extent.offset, got, random_.chance(2), limits));
    ASSERT_TRUE(read) << read.error();
    ASSERT_TRUE(std::ranges::equal(got, core::ByteView(content_).subspan(extent.offset, extent.length)));
  }
  void settle() {
    std::vector<StripeNumber> numbers;
    for (const auto& extent : extents_) numbers.push_back(extent.stripe);
    const Durability durability = random_.chance(2) ? Durability::quorum : Durability::local;
    const auto settled = volume_.run(volume_.stripes->settle(numbers, durability, volume_.soon()));
    ASSERT_TRUE(settled) << settled.error();
  }
  void drop_all() {
    meta::Changes changes;
    for (const auto& extent : extents_) changes.emplace_back(meta::DropExtent{inode_, extent.offset});
    ASSERT_TRUE(volume_.catalog->commit(changes));
    extents_.clear();
    content_.clear();
    volume_.stripes->collect_soon();
    append(10);
  }

  ThreadedVolume& volume_;
  Random random_;
  const InodeNumber inode_;
  const core::FileId file_ = core::random_id<core::FileId>();
  const core::Key key_ = core::random_key();
  const Deadline deadline_{core::SystemClock().now() + 1h};
  core::Bytes content_;
  std::vector<meta::ExtentRecord> extents_;
};

TEST(StripesThreadsTest, FourWritersReadWhatTheyWrote) {
  const std::uint64_t seed = ephfs::testing::test_seed();
  SCOPED_TRACE(ephfs::testing::describe_seed(seed));
  ThreadedVolume volume;
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t i = 0; i < 4; ++i) {
      threads.emplace_back([&volume, seed, i] { Worker(volume, seed + i, InodeNumber{2 + i})(); });
    }
  }
  const auto broken = volume.catalog->check();
  ASSERT_TRUE(broken) << broken.error();
  EXPECT_TRUE(broken->empty()) << ::testing::PrintToString(*broken);
  EXPECT_LE(volume.stripes->counters().cached_bytes, volume.options.cache_bytes);
}

}  // namespace
}  // namespace ephfs::fs::testing
