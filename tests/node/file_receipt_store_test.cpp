// SPDX-License-Identifier: Apache-2.0
#include "node/file_receipt_store.hpp"

#include <map>

#include "tests/node/node_test_support.hpp"

namespace ephfs::node::testing {
namespace {

namespace files = std::filesystem;
using namespace std::chrono_literals;

constexpr core::Instant kStart{1'800'000'000'000};

class FileReceiptStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { reopen(kStart); }
  void reopen(core::Instant now) {
    store_.reset();
    auto opened = FileReceiptStore::open(directory_.path(), now, limits_);
    ASSERT_TRUE(opened) << opened.error();
    store_ = std::move(*opened);
  }
  core::ShardId shard() { return *core::ShardId::from_bytes(random_.bytes(core::ShardId::kSize)); }
  KeptReceipt receipt(const core::ShardId& shard, core::Instant at = kStart) const {
    core::Receipt receipt;
    receipt.kind = core::ReceiptKind::deleted;
    receipt.shard = shard;
    receipt.node = core::node_id_of(node_.public_key());
    receipt.owner = owner_id_of(node_);
    receipt.at = at;
    receipt.deadline = core::Deadline(at);
    receipt.bytes = 1;
    return {receipt, core::sign_receipt(receipt, node_)};
  }
  std::vector<KeptReceipt> append(std::size_t count, core::Instant at = kStart) {
    std::vector<KeptReceipt> receipts;
    for (std::size_t i = 0; i < count; ++i) receipts.push_back(receipt(shard(), at));
    EXPECT_TRUE(store_->append(receipts));
    return receipts;
  }
  std::size_t found(const std::vector<KeptReceipt>& receipts) {
    std::size_t count = 0;
    for (const auto& kept : receipts) {
      const auto envelope = store_->find(kept.receipt.shard);
      EXPECT_TRUE(envelope) << envelope.error();
      if (!envelope || !*envelope) continue;
      EXPECT_EQ(**envelope, kept.envelope);
      ++count;
    }
    return count;
  }
  std::vector<files::path> segments() const {
    std::vector<files::path> paths;
    for (const auto& entry : files::directory_iterator(directory_ / "receipts")) paths.push_back(entry.path());
    std::ranges::sort(paths);
    return paths;
  }

  TempDir directory_;
  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
  core::Signer node_ = make_signer(random_);
  ReceiptLimits limits_{.kept = 30 * 24h, .segment_span = 24h, .segment_receipts = 8, .receipts = 40};
  std::unique_ptr<FileReceiptStore> store_;
};

TEST_F(FileReceiptStoreTest, GivesBackWhatItKeptAlsoAfterARestart) {
  const auto receipts = append(20);
  EXPECT_EQ(found(receipts), 20U);
  EXPECT_EQ(segments().size(), 3U);
  reopen(kStart);
  EXPECT_EQ(found(receipts), 20U);
  EXPECT_EQ(store_->size(), 20U);
  const auto more = append(3);
  EXPECT_EQ(segments().size(), 3U) << "the last file is filled up";
  EXPECT_EQ(found(receipts) + found(more), 23U);
  EXPECT_FALSE(store_->find(shard()).value());
  EXPECT_EQ(files::status(segments()[0]).permissions() & files::perms::mask, files::perms(0600));
}

TEST_F(FileReceiptStoreTest, TheLatestReceiptOfAShardCounts) {
  const auto id = shard();
  const auto first = receipt(id, kStart);
  const auto second = receipt(id, kStart + 1h);
  ASSERT_TRUE(store_->append({first, second}));
  EXPECT_EQ(store_->find(id).value(), second.envelope);
  reopen(kStart + 1h);
  EXPECT_EQ(store_->find(id).value(), second.envelope);
  EXPECT_EQ(store_->size(), 1U);
}

TEST_F(FileReceiptStoreTest, DropsOldFilesWhole) {
  const auto old = append(3, kStart);
  const auto later = append(3, kStart + 25h);
  EXPECT_EQ(segments().size(), 2U) << "a file spans a day";
  const auto latest = append(1, kStart + 30 * 24h + 1ms);
  EXPECT_EQ(found(old), 0U);
  EXPECT_EQ(found(later) + found(latest), 4U);
  reopen(kStart + 31 * 24h + 1h);
  EXPECT_EQ(found(latest), 0U + 1);
  EXPECT_EQ(found(later), 3U);
  reopen(kStart + 31 * 24h + 1h + 1ms);
  EXPECT_EQ(found(later), 0U);
  EXPECT_EQ(segments().size(), 1U);
}

TEST_F(FileReceiptStoreTest, KeepsNoMoreThanItMay) {
  std::vector<KeptReceipt> all;
  for (int i = 0; i < 30; ++i) {
    for (auto& one : append(3)) all.push_back(std::move(one));
    EXPECT_LE(store_->size(), 40U);
  }
  EXPECT_GE(store_->size(), 32U);
  const std::vector<KeptReceipt> last(all.end() - 32, all.end());
  EXPECT_EQ(found(last), 32U);
  EXPECT_LE(segments().size(), 6U);
}

// A crash in the middle of appending, at every byte.
TEST_F(FileReceiptStoreTest, AFileCutAnywhereGivesItsWholeReceipts) {
  const auto receipts = append(4);
  const auto path = segments().at(0);
  const auto whole = files::file_size(path);
  const auto bytes = core::read_file(path, 1 << 20).value();
  store_.reset();
  std::size_t most = 0;
  for (std::uintmax_t size = 0; size <= whole; ++size) {
    SCOPED_TRACE(size);
    {
      std::ofstream file(path, std::ios::binary | std::ios::trunc);
      file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(size));
    }
    reopen(kStart);
    const std::size_t here = found(receipts);
    EXPECT_GE(here, most);
    most = here;
    if (size % 97 == 0) {
      const auto after = append(1);
      reopen(kStart);
      EXPECT_EQ(found(receipts), here);
      EXPECT_EQ(found(after), 1U);
    }
    store_.reset();
    for (const auto& left : segments()) files::remove(left);
  }
  EXPECT_EQ(most, 4U);
}

TEST_F(FileReceiptStoreTest, AFlippedByteGivesNothingWrong) {
  const auto receipts = append(8);
  append(8);
  const auto path = segments().at(0);
  ::testing::internal::CaptureStderr();
  for (std::uint64_t at = 12; at < files::file_size(path); at += 7) {
    store_.reset();
    const auto bytes = core::read_file(path, 1 << 20).value();
    flip_byte_in_file(path, at);
    reopen(kStart);
    EXPECT_LT(found(receipts), 8U);  // each that is found is as it was
    store_.reset();
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  (void)::testing::internal::GetCapturedStderr();
}

TEST_F(FileReceiptStoreTest, RefusesALaterVersionAndLeavesItAlone) {
  append(1);
  const auto path = segments().at(0);
  store_.reset();
  flip_byte_in_file(path, 8);
  const auto size = files::file_size(path);
  const auto opened = FileReceiptStore::open(directory_.path(), kStart, limits_);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, core::Error::version);
  EXPECT_NE(opened.error().detail.find(path.string()), std::string::npos);
  EXPECT_EQ(files::file_size(path), size);
}

}  // namespace
}  // namespace ephfs::node::testing
