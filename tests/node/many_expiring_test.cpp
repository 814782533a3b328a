// SPDX-License-Identifier: Apache-2.0
// Very many leases that end at one instant on one node with its files: every shard goes, each leaves its receipt,
// others are served in between, and memory is bounded. EPHFS_SHARDS=100000 makes as many, and tells what they took.
#include <chrono>
#include <fstream>
#include <iostream>

#include <unistd.h>

#include "node/file_receipt_store.hpp"
#include "node/lease_reaper.hpp"
#include "tests/node/node_test_support.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::node::testing {
namespace {

using ephfs::testing::VirtualClock;
using namespace std::chrono_literals;

std::size_t shard_count() {
  constexpr std::size_t kDefault = 2000;
  const char* chosen = std::getenv("EPHFS_SHARDS");
  return chosen == nullptr ? kDefault : std::strtoull(chosen, nullptr, 10);
}

std::uint64_t resident_bytes() {
  std::ifstream pages("/proc/self/statm");
  std::uint64_t all = 0;
  std::uint64_t resident = 0;
  pages >> all >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

class ManyExpiring : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kCapacity = std::uint64_t{1} << 40U;
  static constexpr std::uint64_t kShardBytes = 500;

  ManyExpiring() { open(); }
  ~ManyExpiring() override { close(); }

  void open() {
    store_ = open_file_shard_store(directory_.path(), kCapacity, clock_.now()).value();
    receipts_ = FileReceiptStore::open(directory_.path(), clock_.now()).value();
    peer_ = std::make_unique<LocalPeer>(*store_, *receipts_, clock_, node_, context_.get_executor());
    reaper_ = std::make_unique<LeaseReaper>(*peer_, clock_, context_.get_executor(), context_.get_executor());
    reaper_->start();
  }
  void close() {
    EXPECT_TRUE(clock_.run(reaper_->stop()));
    EXPECT_TRUE(clock_.run(peer_->stop()));
    reaper_.reset();
    peer_.reset();
    receipts_.reset();
    store_.reset();
  }
  SampleShard stored(core::Milliseconds left) {
    SampleShard shard = make_shard(random_, kShardBytes);
    const auto lease = make_lease(shard, peer_->id(), owner_, clock_.now() + left);
    const auto receipt = *clock_.run(peer_->store(core::sign_lease(lease, owner_), shard.source, limits()));
    EXPECT_TRUE(receipt) << receipt.error();
    return shard;
  }
  net::CallLimits limits() const { return {clock_.boot_now() + 10s, {}}; }

  /// Fetches the one that lives, again and again, until the others are gone and their receipts are kept.
  core::awaitable<void> fetch_meanwhile(const SampleShard* living, std::size_t dying) {
    const auto began = std::chrono::steady_clock::now();
    while (receipts_->size() < dying && fetches_ < 2 * dying) {
      // On the one loop there is, what need not wait would not let others go on.
      co_await core::asio::post(core::asio::use_awaitable);
      const auto asked = std::chrono::steady_clock::now();
      net::FetchRequest request;
      request.shard = living->id;
      request.length = kShardBytes;
      const auto got = co_await peer_->fetch(request, limits());
      EXPECT_TRUE(got && got->bytes.size() == kShardBytes);
      ++fetches_;
      const std::uint64_t left = store_->usage().shards - 1;
      if (left > 0 && left < dying) {
        ++fetches_while_deleting_;
      } else if (left == 0 && deleted_after_.count() == 0) {
        deleted_after_ = std::chrono::steady_clock::now() - began;
      }
      longest_fetch_ =
          std::max<std::chrono::duration<double>>(longest_fetch_, std::chrono::steady_clock::now() - asked);
      most_resident_ = std::max(most_resident_, resident_bytes());
    }
    kept_after_ = std::chrono::steady_clock::now() - began;
  }

  core::asio::io_context context_;
  VirtualClock clock_{context_};
  Random random_;
  core::Signer node_ = make_signer(random_);
  core::Signer owner_ = make_signer(random_);
  TempDir directory_;
  std::unique_ptr<FileShardStore> store_;
  std::unique_ptr<FileReceiptStore> receipts_;
  std::unique_ptr<LocalPeer> peer_;
  std::unique_ptr<LeaseReaper> reaper_;
  core::TaskGroup tasks_;
  std::size_t fetches_ = 0;
  std::size_t fetches_while_deleting_ = 0;
  std::uint64_t most_resident_ = 0;
  std::chrono::duration<double> longest_fetch_{0};
  std::chrono::duration<double> deleted_after_{0};
  std::chrono::duration<double> kept_after_{0};
};

TEST_F(ManyExpiring, GoWithAReceiptEachWhileOthersAreServed) {
  EPHFS_TRACE_SEED(random_);
  const std::size_t count = shard_count();
  const SampleShard living = stored(2h);
  std::vector<core::ShardId> dying;
  dying.reserve(count);
  for (std::size_t i = 0; i < count; ++i) dying.push_back(stored(1h).id);
  ASSERT_EQ(store_->usage().shards, count + 1);
  ASSERT_EQ(receipts_->size(), 0U);
  const std::uint64_t resident = resident_bytes();

  // Both begin at one moment of the loop, and have their turns.
  clock_.set_wall(clock_.now() + 1h);
  tasks_.spawn(context_.get_executor(), [&] { return fetch_meanwhile(&living, count); });
  reaper_->look_again();
  clock_.settle();
  ASSERT_TRUE(clock_.run(tasks_.join()));
  EXPECT_EQ(store_->usage().shards, 1U);
  EXPECT_EQ(receipts_->size(), count);
  EXPECT_TRUE(store_->traces(1).empty());
  constexpr std::size_t kBatch = 64;  // deleted at a time
  EXPECT_GE(fetches_while_deleting_, count / kBatch / 2) << "others have their turn between batches";
  // What a held shard took is used again for its trace; receipts are found by an index.
  constexpr std::uint64_t kBytesEach = 192;
  constexpr std::uint64_t kNodeItself = std::uint64_t{16} << 20U;
  EXPECT_TRUE(ephfs::testing::kSanitized || most_resident_ <= resident + kNodeItself + kBytesEach * count)
      << most_resident_ - resident << " bytes more";
  std::cout << count << " shards were deleted after " << deleted_after_.count() << " s, their receipts kept after "
            << kept_after_.count() << " s; the longest of " << fetches_ << " fetches meanwhile took "
            << longest_fetch_.count() * 1000 << " ms; "
            << (most_resident_ > resident ? (most_resident_ - resident) / 1024 : 0) << " KiB more at most\n";

  close();
  open();
  EXPECT_EQ(receipts_->size(), count);
  EXPECT_EQ(store_->usage().shards, 1U);
  for (std::size_t i = 0; i < count; i += 1 + count / 500) {
    const auto envelope = receipts_->find(dying[i]).value();
    ASSERT_TRUE(envelope);
    const auto receipt = core::open_receipt(*envelope);
    ASSERT_TRUE(receipt) << receipt.error();
    EXPECT_EQ(receipt->kind, core::ReceiptKind::deleted);
    EXPECT_EQ(receipt->shard, dying[i]);
    EXPECT_EQ(receipt->owner, owner_id_of(owner_));
  }
}

}  // namespace
}  // namespace ephfs::node::testing
