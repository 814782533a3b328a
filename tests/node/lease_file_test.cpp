// SPDX-License-Identifier: Apache-2.0
#include "node/lease_file.hpp"

#include "tests/node/node_test_support.hpp"

namespace ephfs::node::testing {
namespace {

class LeaseFile : public ::testing::Test {
 protected:
  Random random_;
  core::Signer owner_ = make_signer(random_);
  SampleShard shard_ = make_shard(random_, 3 * core::kLeafBytes + 1);
  HeldLease held_ = make_held(
      make_lease(shard_, core::node_id_of(owner_.public_key()), owner_, core::Instant{1'800'000'000'000}, 42), owner_);
  core::Bytes file_ = encode_lease_file(held_, shard_.tree().leaves());
};

TEST_F(LeaseFile, ReadsBackWhatWasWritten) {
  const auto head = parse_lease_head(file_, file_.size());
  ASSERT_TRUE(head) << head.error();
  EXPECT_EQ(head->held.envelope, held_.envelope);
  EXPECT_EQ(head->held.lease.shard, shard_.id);
  EXPECT_EQ(head->held.lease.node, held_.lease.node);
  EXPECT_EQ(head->held.lease.owner, held_.lease.owner);
  EXPECT_EQ(head->held.lease.bytes, shard_.bytes());
  EXPECT_EQ(head->held.lease.deadline, held_.lease.deadline);
  EXPECT_EQ(head->held.lease.serial, 42U);
  EXPECT_EQ(head->leaves, 4U);
  const auto leaves = parse_leaf_hashes(file_);
  ASSERT_TRUE(leaves);
  EXPECT_EQ(*leaves, shard_.tree().leaves());
}

TEST_F(LeaseFile, NeedsOnlyItsHead) {
  const core::ByteView prefix = core::ByteView(file_).first(file_.size() - 4 * core::Hash::kSize);
  EXPECT_TRUE(parse_lease_head(prefix, file_.size()));
}

TEST_F(LeaseFile, RefusesEveryTruncation) {
  for (std::size_t size = 0; size < file_.size(); ++size) {
    EXPECT_FALSE(parse_lease_head(core::ByteView(file_).first(size), size)) << size;
  }
  file_.push_back(std::byte{0});
  EXPECT_FALSE(parse_lease_head(file_, file_.size())) << "a byte too many";
}

TEST_F(LeaseFile, RefusesEveryChangedByteOfItsHead) {
  const std::size_t head_bytes = parse_lease_head(file_, file_.size())->head_bytes;
  for (std::size_t at = 0; at < head_bytes; ++at) {
    file_[at] ^= std::byte{0x40};
    EXPECT_FALSE(parse_lease_head(file_, file_.size())) << at;
    file_[at] ^= std::byte{0x40};
  }
}

TEST_F(LeaseFile, TellsAnotherVersionFromDamage) {
  file_[8] = std::byte{2};
  EXPECT_EQ(parse_lease_head(file_, file_.size()).error().code, core::Error::version);
}

}  // namespace
}  // namespace ephfs::node::testing
