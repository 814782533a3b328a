// SPDX-License-Identifier: Apache-2.0
// Proofs: made from a catalog, checked from the text alone; and what is changed in them, found.
#include "meta/proof.hpp"

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/meta/model_catalog.hpp"
#include "tests/meta/records.hpp"
#include "tests/support/seeded.hpp"

namespace ephfs::meta::testing {
namespace {

namespace json = boost::json;
using ephfs::testing::Random;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr core::Instant kNow{1'800'000'000'000};
constexpr core::Milliseconds kHour = std::chrono::hours(1);

class ProofTest : public ::testing::Test {
 protected:
  ProofTest() {
    for (int i = 0; i < 3; ++i) nodes_.emplace_back(core::SigningSeed::copy_of(random_.bytes(32)));
    commit({PutInode{directory(1)}});
  }
  void commit(const Changes& changes) {
    const auto done = catalog_.commit(changes);
    ASSERT_TRUE(done) << done.error();
  }
  core::Bytes sign(core::ReceiptKind kind, const PlacementRecord& row, core::Instant at) const {
    core::Receipt receipt;
    receipt.kind = kind;
    receipt.shard = row.shard;
    receipt.node = row.node;
    receipt.owner = *core::OwnerId::from_bytes(owner_.public_key().view());
    receipt.at = at;
    receipt.deadline = row.lease_deadline;
    receipt.bytes = row.shard_bytes;
    return core::sign_receipt(receipt, nodes_[row.index]).serialize();
  }
  /// File 2, all of a placed stripe 2+1 that ends with it.
  void make_file(std::uint64_t size = 10'000) {
    InodeRecord inode = regular(2, size, deadline_);
    inode.links = 0;
    StripeRecord record = stripe(1, StripeState::placed, size + 16, deadline_);
    Changes changes{PutInode{inode}, PutStripe{record}, PutExtent{extent(2, 0, size, 1)}};
    for (std::uint8_t i = 0; i < 3; ++i) {
      PlacementRecord row = placement(1, i);
      row.shard = *core::ShardId::from_bytes(random_.bytes(32));
      row.node = core::node_id_of(nodes_[i].public_key());
      row.shard_bytes = core::shard_bytes(record.length, record.profile);
      row.lease_deadline = deadline_;
      row.receipt = sign(core::ReceiptKind::stored, row, kNow - kHour);
      rows_.push_back(row);
      changes.emplace_back(PutPlacement{row});
      changes.emplace_back(PutAudit{{{1},
                                     i,
                                     row.shard,
                                     row.node,
                                     kNow - core::Milliseconds{5},
                                     i != 2,
                                     i != 2 ? sign(core::ReceiptKind::served, row, kNow) : core::Bytes()}});
    }
    commit(changes);
  }
  /// It dies with its stripe at its deadline; of `deleted` shards there are receipts.
  void kill_file(std::size_t deleted = 3) {
    const core::Instant died = deadline_.instant();
    DeadFileRecord dead{{2},  id_of<core::FileId>(2),   DeathCause::expired, died, deadline_, 10'000,
                        true, {extent(2, 0, 10'000, 1)}};
    DeadStripeRecord stripe{{1}, id_of<core::StripeId>(1), core::BlockFormat::aes_256_gcm_4k, {2, 1}, 10'016, deadline_,
                            died};
    Changes changes{DropInode{{2}}, DropStripe{{1}}, PutDeadFile{dead}, PutDeadStripe{stripe}};
    for (const auto& row : rows_) {
      DeadShardRecord shard{{1},         row.index, row.shard, row.node, row.shard_bytes, row.lease_deadline,
                            row.receipt, {},        {}};
      if (row.index < deleted) shard.deletion = sign(core::ReceiptKind::deleted, row, died + core::Milliseconds{500});
      changes.emplace_back(PutDeadShard{shard});
    }
    commit(changes);
  }
  std::string puncture(core::Instant until, core::Instant at) const {
    const auto id = *core::OwnerId::from_bytes(owner_.public_key().view());
    return core::to_hex(core::sign_puncture({volume_, id, until, at}, owner_).serialize());
  }
  ProofContext context(core::Instant now = kNow) const { return {catalog_, volume_, owner_, now, {}}; }
  std::string living() const {
    const auto proof = prove_file(context(), {2});
    EXPECT_TRUE(proof) << proof.error();
    return proof ? *proof : std::string();
  }
  /// By default, made when the wheel has just passed the deadline's minute.
  std::string dead(core::Milliseconds after = core::Milliseconds{60'000}) const {
    ProofContext with = context(deadline_.instant() + kHour);
    with.punctured = {deadline_.instant() + after, deadline_.instant() + kHour};
    const auto proof = prove_dead_file(with, id_of<core::FileId>(2));
    EXPECT_TRUE(proof) << proof.error();
    return proof ? *proof : std::string();
  }
  /// As an owner would who lies: the text changed and signed again.
  std::string signed_again(const std::string& text, const std::function<void(json::object&)>& change) const {
    json::object proof = json::parse(text).as_object();
    proof.erase("signature");
    change(proof);
    proof["signature"] = owner_.sign("ephfs proof", core::as_bytes(json::serialize(proof))).hex();
    return json::serialize(proof);
  }
  static json::object& shard_of(json::object& proof, std::size_t index) {
    return proof.at("stripes").as_array().at(0).as_object().at("shards").as_array().at(index).as_object();
  }
  void expect_fault(const std::string& text, const std::string& words) {
    const auto report = check_proof(text);
    EXPECT_THAT(report.faults, ::testing::Contains(HasSubstr(words)));
  }

  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
  ModelCatalog catalog_;
  core::Signer owner_{core::SigningSeed::copy_of(random_.bytes(32))};
  core::VolumeId volume_ = *core::VolumeId::from_bytes(random_.bytes(16));
  std::vector<core::Signer> nodes_;
  std::vector<PlacementRecord> rows_;
  Deadline deadline_{kNow + kHour};
};

TEST_F(ProofTest, OfALivingFile) {
  make_file();
  const auto report = check_proof(living());
  EXPECT_THAT(report.faults, IsEmpty());
  EXPECT_EQ(report.file, id_of<core::FileId>(2));
  EXPECT_EQ(report.deadline, deadline_);
  EXPECT_FALSE(report.cause);
  EXPECT_TRUE(report.has_manifest);
  EXPECT_EQ(report.stripes, 1U);
  EXPECT_EQ(report.shards, 3U);
  EXPECT_EQ(report.receipts, 3U);
  EXPECT_EQ(report.audits, 2U);
  EXPECT_EQ(report.deletions, 0U);
}

TEST_F(ProofTest, OfADeadFile) {
  make_file();
  const auto before = json::parse(living()).as_object();
  kill_file(2);
  const auto report = check_proof(dead());
  EXPECT_THAT(report.faults, IsEmpty());
  EXPECT_EQ(report.cause, DeathCause::expired);
  EXPECT_EQ(report.died, deadline_.instant());
  EXPECT_EQ(report.receipts, 3U);
  EXPECT_EQ(report.deletions, 2U);
  EXPECT_TRUE(report.key_destroyed);
  EXPECT_THAT(report.missing(), ElementsAre(HasSubstr("1 shards")));
  EXPECT_EQ(json::parse(dead()).at("manifest_hash"), before.at("manifest_hash")) << "it is the same file";
  EXPECT_EQ(prove_dead_file(context(), id_of<core::FileId>(9)).error().code, core::Error::not_found);
}

TEST_F(ProofTest, ADeathIsCompleteWhenTheMinuteOfTheDeadlineIsPunctured) {
  make_file();
  EXPECT_FALSE(json::parse(living()).as_object().contains("puncture"));
  kill_file();
  // The minute begins with the deadline.
  const auto before = check_proof(dead(core::Milliseconds{0}));
  EXPECT_THAT(before.faults, IsEmpty());
  EXPECT_FALSE(before.key_destroyed);
  EXPECT_THAT(before.missing(), ElementsAre(HasSubstr("the key")));
  const auto after = check_proof(dead());
  EXPECT_TRUE(after.key_destroyed);
  EXPECT_THAT(after.missing(), IsEmpty());

  ProofContext nothing = context(deadline_.instant() + kHour);
  const auto proof = prove_dead_file(nothing, id_of<core::FileId>(2));
  ASSERT_TRUE(proof) << proof.error();
  EXPECT_FALSE(json::parse(*proof).as_object().contains("puncture")) << "a wheel that has destroyed nothing";
  EXPECT_THAT(check_proof(*proof).missing(), ElementsAre(HasSubstr("the key")));
}

TEST_F(ProofTest, WhatWasRemovedEarlyIsCompleteWithoutItsEpochsKey) {
  make_file();
  kill_file();
  const auto early = check_proof(
      signed_again(dead(core::Milliseconds{0}), [](json::object& p) { p["died"].as_object()["cause"] = "removed"; }));
  EXPECT_THAT(early.faults, IsEmpty());
  EXPECT_THAT(early.missing(), IsEmpty());
}

// Every byte of the statement, in a proof that is signed anew around it.
TEST_F(ProofTest, APunctureThatIsNotTheOwnersOwnIsFound) {
  make_file();
  const std::string alive = living();
  kill_file();
  const std::string gone = dead();
  const std::string good(json::parse(gone).at("puncture").as_string());
  Random random;
  EPHFS_TRACE_SEED(random);
  for (std::size_t at = 0; at < good.size(); at += 2) {
    std::string bad = good;
    core::Bytes byte(1);
    ASSERT_TRUE(core::from_hex(bad.substr(at, 2), byte));
    byte[0] ^= std::byte(random.between(1, 255));
    bad.replace(at, 2, core::to_hex(byte));
    const auto report = check_proof(signed_again(gone, [&](json::object& p) { p["puncture"] = bad; }));
    EXPECT_FALSE(report.faults.empty()) << "byte " << at / 2;
    EXPECT_FALSE(report.key_destroyed) << "byte " << at / 2;
  }
  const core::Instant deadline = deadline_.instant();
  expect_fault(signed_again(gone, [&](json::object& p) { p["puncture"] = puncture(deadline, deadline + 2 * kHour); }),
               "after the proof was made");
  expect_fault(
      signed_again(alive, [&](json::object& p) { p["puncture"] = puncture(deadline + kHour, deadline + kHour); }),
      "after the proof was made");
}

TEST_F(ProofTest, SaysOnlyWhatIsKnownOfAFileThatWasNotPlaced) {
  StripeRecord record = stripe(1, StripeState::sealed, 5000, deadline_);
  InodeRecord inode = regular(2, 1000, deadline_);
  inode.links = 0;
  commit({PutInode{inode}, PutStripe{record}, PutExtent{extent(2, 0, 1000, 1)}});
  const auto report = check_proof(living());
  EXPECT_THAT(report.faults, IsEmpty());
  EXPECT_FALSE(report.has_manifest);
  EXPECT_EQ(report.shards, 0U);
  EXPECT_EQ(prove_file(context(), {1}).error().code, core::Error::invalid_argument);
  EXPECT_EQ(prove_file(context(), {9}).error().code, core::Error::not_found);
}

// What is true of such a moment would not convince anybody.
TEST_F(ProofTest, IsNotMadeWhileBytesLieWhereTheyOutliveTheFile) {
  make_file();
  StripeRecord longer = stripe(1, StripeState::placed, 10'016, Deadline(deadline_.instant() + kHour));
  commit({PutStripe{longer}});
  EXPECT_TRUE(prove_file(context(), {2})) << "the end of its bucket";
  longer.deadline = Deadline(deadline_.instant() + kHour + core::Milliseconds{1});
  commit({PutStripe{longer}});
  EXPECT_EQ(prove_file(context(), {2}).error().code, core::Error::busy);
  longer.deadline = Deadline(deadline_.instant() - core::Milliseconds{1});
  commit({PutStripe{longer}});
  EXPECT_EQ(prove_file(context(), {2}).error().code, core::Error::busy) << "its leases end with the file";
}

// Every bit of both kinds of proof: found, or the JSON says the same as before.
TEST_F(ProofTest, EveryFlippedBitIsFoundHeavy) {
  make_file();
  const std::string alive = living();
  kill_file();
  for (const std::string& good : {alive, dead()}) {
    const json::value said = json::parse(good);
    std::string text = good;
    for (std::size_t at = 0; at < text.size(); ++at) {
      // All bits of some bytes, and one of each.
      const unsigned bits = at % 16 == 0 ? 8 : 1;
      for (unsigned bit = 0; bit < bits; ++bit) {
        const auto flip = static_cast<char>(1U << (bits == 1 ? at % 8 : bit));
        text[at] = static_cast<char>(text[at] ^ flip);
        if (check_proof(text).faults.empty()) {
          boost::system::error_code error;
          EXPECT_TRUE(json::parse(text, error) == said) << "byte " << at;
        }
        text[at] = static_cast<char>(text[at] ^ flip);
      }
    }
  }
}

TEST_F(ProofTest, EveryTruncationIsFoundAndWhiteSpaceIsNot) {
  make_file();
  const std::string good = living();
  for (std::size_t size = 0; size < good.size(); size += 1 + size / 64) {
    EXPECT_FALSE(check_proof(good.substr(0, size)).faults.empty()) << size;
  }
  std::string spaced = "\n ";
  for (const char c : good) {
    spaced += c;
    if (c == ',' || c == '{') spaced += " \n";
  }
  EXPECT_THAT(check_proof(spaced).faults, IsEmpty());
  expect_fault(good + "x", "not a JSON object");
  expect_fault(std::string(100'000, '['), "not a JSON object");
  expect_fault("{}", "format");
  expect_fault("", "not a JSON object");
}

// What an owner cannot make true by signing it.
TEST_F(ProofTest, TheOwnerCannotLieForTheNodes) {
  make_file();
  const std::string alive = living();
  kill_file();
  const std::string gone = dead();
  const auto changed = [&](const std::string& text, const std::function<void(json::object&)>& change) {
    return signed_again(text, change);
  };
  EXPECT_THAT(check_proof(changed(alive, [](json::object&) {})).faults, IsEmpty());
  const auto other = sign(core::ReceiptKind::deleted, rows_[1], deadline_.instant());
  expect_fault(changed(gone, [&](json::object& p) { shard_of(p, 0)["deletion"] = core::to_hex(other); }),
               "another shard or node");
  expect_fault(changed(gone, [&](json::object& p) { shard_of(p, 0)["deletion"] = shard_of(p, 0)["receipt"]; }),
               "another kind");
  expect_fault(changed(gone, [&](json::object& p) { shard_of(p, 0)["receipt"] = shard_of(p, 0)["deletion"]; }),
               "another kind");
  expect_fault(changed(gone, [&](json::object& p) { shard_of(p, 0)["key"] = shard_of(p, 1)["key"]; }), "its key's");
  expect_fault(
      changed(gone, [&](json::object& p) { p["stripes"].as_array()[0].as_object()["shards"].as_array().pop_back(); }),
      "is not in the proof");
  expect_fault(changed(gone, [&](json::object& p) { p["stripes"].as_array()[0].as_object()["shard_bytes"] = 64; }),
               "length");
  expect_fault(changed(gone, [&](json::object& p) { p["stripes"].as_array().clear(); }), "is not the proof's");
  expect_fault(changed(gone, [&](json::object& p) { p["file"] = std::string(32, 'a'); }), "another file");
  expect_fault(changed(gone, [&](json::object& p) { p["manifest_hash"] = std::string(64, 'a'); }), "another hash");
  expect_fault(changed(gone, [&](json::object& p) { p.erase("died"); }), "nothing of the file's death");
  expect_fault(changed(gone, [&](json::object& p) { p["died"].as_object()["at_ms"] = kNow.ms; }),
               "before its deadline");
  expect_fault(changed(gone, [&](json::object& p) { p["volume"] = std::string(32, 'a'); }), "another volume");
  expect_fault(changed(alive,
                       [&](json::object& p) {
                         p["stripes"].as_array()[0].as_object()["deadline_ms"] = (deadline_.instant() + 2 * kHour).ms;
                       }),
               "past the file's deadline");
  expect_fault(changed(alive,
                       [&](json::object& p) {
                         p["stripes"].as_array()[0].as_object()["deadline_ms"] = (deadline_.instant() - kHour).ms;
                       }),
               "the lease ends after the stripe does");
  const auto early = sign(core::ReceiptKind::deleted, rows_[0], kNow);
  expect_fault(changed(alive, [&](json::object& p) { shard_of(p, 0)["deletion"] = core::to_hex(early); }),
               "the file lives");
  const auto before = sign(core::ReceiptKind::deleted, rows_[0], kNow - 2 * kHour);
  expect_fault(changed(gone, [&](json::object& p) { shard_of(p, 0)["deletion"] = core::to_hex(before); }),
               "before the node had the shard");
  const auto late = sign(core::ReceiptKind::stored, rows_[0], deadline_.instant());
  expect_fault(changed(gone, [&](json::object& p) { shard_of(p, 0)["receipt"] = core::to_hex(late); }),
               "after its own deadline");
  expect_fault(changed(alive, [&](json::object& p) { shard_of(p, 2)["audit"].as_object()["passed"] = true; }), "audit");
  expect_fault(changed(alive, [&](json::object& p) { p["version"] = 2; }), "version 2");
}

// The figure that is asked for: 10,000 receipts a second on one core. Here a tenth of that, since machines differ.
TEST_F(ProofTest, ChecksManyReceipts) {
  make_file();
  const std::string text = signed_again(living(), [](json::object& p) {
    p.erase("manifest");
    p.erase("manifest_hash");
    json::array stripes;
    for (int i = 0; i < 300; ++i) stripes.push_back(p["stripes"].as_array()[0]);
    p["stripes"] = std::move(stripes);
  });
  const auto report = check_proof(text);
  EXPECT_THAT(report.faults, IsEmpty());
  EXPECT_EQ(report.receipts + report.audits, 1500U);
}

}  // namespace
}  // namespace ephfs::meta::testing
