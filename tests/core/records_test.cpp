// SPDX-License-Identifier: Apache-2.0
#include "core/records.hpp"

#include <gtest/gtest.h>

#include "core/records.pb.h"

namespace ephfs::core {
namespace {

template <class Id>
Id filled(unsigned value) {
  return *Id::from_bytes(Bytes(Id::kSize, static_cast<std::byte>(value)));
}

const Signer& owner() {
  static const Signer signer(SigningSeed::copy_of(Bytes(32, std::byte{1})));
  return signer;
}
const Signer& node() {
  static const Signer signer(SigningSeed::copy_of(Bytes(32, std::byte{2})));
  return signer;
}
OwnerId owner_id() {
  return *OwnerId::from_bytes(owner().public_key().view());
}

Lease some_lease() {
  return {filled<ShardId>(0x11),
          node_id_of(node().public_key()),
          owner_id(),
          4096,
          Deadline(Instant{1'800'000'000'000}),
          5};
}
Removal some_removal() {
  return {filled<ShardId>(0x11), node_id_of(node().public_key()), owner_id(), 5};
}
Receipt some_receipt() {
  return {ReceiptKind::served,
          filled<ShardId>(0x11),
          node_id_of(node().public_key()),
          owner_id(),
          Instant{1'700'000'000'000},
          Deadline(Instant{1'800'000'000'000}),
          4096};
}

template <class Open>
void expect_refused_when_flipped(const Envelope& envelope, Open open) {
  Bytes bytes = envelope.serialize();
  const auto refused = [&] {
    const auto parsed = Envelope::parse(bytes);
    return !parsed || !open(*parsed);
  };
  ASSERT_FALSE(refused());
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    EXPECT_TRUE(refused()) << "bit " << bit;
    bytes[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
  }
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto parsed = Envelope::parse(ByteView(bytes).first(size));
    EXPECT_TRUE(!parsed || !open(*parsed)) << size << " bytes";
  }
}

// An envelope around any message, signed well.
template <class Statement>
Envelope signed_by(const Signer& signer, std::string_view context, const Statement& statement) {
  Envelope envelope;
  envelope.statement = to_bytes(as_bytes(statement.SerializeAsString()));
  envelope.signer = signer.public_key();
  envelope.signature = signer.sign(context, envelope.statement);
  return envelope;
}

template <class Statement>
Statement statement_of(const Envelope& envelope) {
  Statement statement;
  EXPECT_TRUE(statement.ParseFromString(std::string(as_text(envelope.statement))));
  return statement;
}

// What open_lease says of some_lease() after `change` to its message.
template <class Change>
Error lease_error(Change change) {
  auto statement = statement_of<proto::LeaseStatement>(sign_lease(some_lease(), owner()));
  change(statement);
  const auto opened = open_lease(signed_by(owner(), "ephfs lease", statement));
  EXPECT_FALSE(opened);
  return opened ? Error::io : opened.error().code;
}

template <class Change>
Error receipt_error(Change change) {
  auto statement = statement_of<proto::ReceiptStatement>(sign_receipt(some_receipt(), node()));
  change(statement);
  const auto opened = open_receipt(signed_by(node(), "ephfs receipt", statement));
  EXPECT_FALSE(opened);
  return opened ? Error::io : opened.error().code;
}

TEST(Envelope, ReadsBackWhatItWrote) {
  const Envelope envelope = sign_lease(some_lease(), owner());
  const Bytes bytes = envelope.serialize();
  EXPECT_EQ(bytes.size(), 97 + envelope.statement.size());
  EXPECT_EQ(bytes[0], std::byte{1});
  const auto read = Envelope::parse(bytes);
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(*read, envelope);
  EXPECT_EQ(read->serialize(), bytes);
}

TEST(Envelope, RefusesOtherLengthsAndVersions) {
  Bytes bytes = sign_lease(some_lease(), owner()).serialize();
  for (std::size_t size = 0; size <= 97; ++size) {
    EXPECT_EQ(Envelope::parse(ByteView(bytes).first(size)).error().code, Error::damaged) << size;
  }
  bytes.resize(kEnvelopeBytesMax);
  EXPECT_TRUE(Envelope::parse(bytes));
  bytes.resize(kEnvelopeBytesMax + 1);
  EXPECT_EQ(Envelope::parse(bytes).error().code, Error::damaged);
  bytes.resize(200);
  bytes[0] = std::byte{2};
  EXPECT_EQ(Envelope::parse(bytes).error().code, Error::version);
}

TEST(Lease, ReadsBackWhatWasSigned) {
  for (const Deadline deadline : {Deadline(Instant{1}), Deadline(kInstantMax), Deadline::never()}) {
    for (const std::uint64_t serial : {std::uint64_t{0}, std::uint64_t{5}, (std::uint64_t{1} << 63U) - 1}) {
      Lease lease = some_lease();
      lease.deadline = deadline;
      lease.serial = serial;
      lease.bytes = serial == 0 ? 1 : 8U << 20U;
      const auto read = open_lease(sign_lease(lease, owner()));
      ASSERT_TRUE(read) << read.error();
      EXPECT_EQ(read->shard, lease.shard);
      EXPECT_EQ(read->node, lease.node);
      EXPECT_EQ(read->owner, lease.owner);
      EXPECT_EQ(read->bytes, lease.bytes);
      EXPECT_EQ(read->deadline, lease.deadline);
      EXPECT_EQ(read->serial, lease.serial);
    }
  }
}

TEST(Lease, HasTheBytesOfItsGrammar) {
  Lease lease = some_lease();
  lease.node = filled<NodeId>(0x22);
  lease.owner = filled<OwnerId>(0x33);
  const auto run = [](const char* digits) {
    std::string bytes;
    for (int i = 0; i < 32; ++i) bytes += digits;
    return bytes;
  };
  // Protobuf: version, three runs of 32 bytes, 4096, 1800000000000 and 5 as varints.
  EXPECT_EQ(to_hex(sign_lease(lease, owner()).statement),
            "0801"
            "1220" +
                run("11") + "1a20" + run("22") + "2220" + run("33") +
                "288020"
                "3080a0f1c2b134"
                "3805");
}

TEST(Lease, RefusesEveryFlippedBit) {
  expect_refused_when_flipped(sign_lease(some_lease(), owner()),
                              [](const Envelope& e) { return open_lease(e).has_value(); });
}

TEST(Lease, RefusesASignerThatIsNotItsOwner) {
  const auto opened = open_lease(sign_lease(some_lease(), node()));
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Error::not_permitted);
  Envelope relabelled = sign_lease(some_lease(), node());
  relabelled.signer = owner().public_key();
  EXPECT_EQ(open_lease(relabelled).error().code, Error::not_permitted);
}

TEST(Lease, RefusesFieldsOutOfRange) {
  using Statement = proto::LeaseStatement;
  EXPECT_EQ(lease_error([](Statement& s) { s.set_version(2); }), Error::version);
  EXPECT_EQ(lease_error([](Statement& s) { s.clear_version(); }), Error::version);
  EXPECT_EQ(lease_error([](Statement& s) { s.mutable_shard()->pop_back(); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.mutable_shard()->push_back('x'); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.clear_shard(); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.set_shard(std::string(32, '\0')); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.set_node(std::string(32, '\0')); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.mutable_node()->pop_back(); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.mutable_owner()->pop_back(); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.set_bytes(0); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.set_bytes((8U << 20U) + 1); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.set_serial(std::uint64_t{1} << 63U); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.set_deadline_ms(0); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.set_deadline_ms(-1); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.set_deadline_ms(kInstantMax.ms + 1); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.set_deadline_ms(Deadline::never().raw() - 1); }), Error::damaged);
  EXPECT_EQ(lease_error([](Statement& s) { s.GetReflection()->MutableUnknownFields(&s)->AddVarint(99, 1); }),
            Error::damaged);
}

TEST(Lease, RefusesSignedBytesThatAreNoStatement) {
  Envelope envelope;
  envelope.statement = Bytes(40, std::byte{0xff});
  envelope.signer = owner().public_key();
  envelope.signature = owner().sign("ephfs lease", envelope.statement);
  EXPECT_EQ(open_lease(envelope).error().code, Error::damaged);
}

TEST(Removal, ReadsBackWhatWasSignedAndRefusesTheRest) {
  const Removal removal = some_removal();
  const Envelope envelope = sign_removal(removal, owner());
  const auto read = open_removal(envelope);
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(read->shard, removal.shard);
  EXPECT_EQ(read->node, removal.node);
  EXPECT_EQ(read->owner, removal.owner);
  EXPECT_EQ(read->serial, removal.serial);
  expect_refused_when_flipped(envelope, [](const Envelope& e) { return open_removal(e).has_value(); });
  EXPECT_EQ(open_removal(sign_removal(removal, node())).error().code, Error::not_permitted);

  auto statement = statement_of<proto::RemovalStatement>(envelope);
  statement.set_serial(std::uint64_t{1} << 63U);
  EXPECT_EQ(open_removal(signed_by(owner(), "ephfs removal", statement)).error().code, Error::damaged);
  statement.set_version(7);
  EXPECT_EQ(open_removal(signed_by(owner(), "ephfs removal", statement)).error().code, Error::version);
}

TEST(Receipt, ReadsBackWhatWasSigned) {
  for (const ReceiptKind kind :
       {ReceiptKind::stored, ReceiptKind::served, ReceiptKind::deleted, ReceiptKind::renewed}) {
    Receipt receipt = some_receipt();
    receipt.kind = kind;
    const auto read = open_receipt(sign_receipt(receipt, node()));
    ASSERT_TRUE(read) << read.error();
    EXPECT_EQ(read->kind, kind);
    EXPECT_EQ(read->shard, receipt.shard);
    EXPECT_EQ(read->node, receipt.node);
    EXPECT_EQ(read->owner, receipt.owner);
    EXPECT_EQ(read->at, receipt.at);
    EXPECT_EQ(read->deadline, receipt.deadline);
    EXPECT_EQ(read->bytes, receipt.bytes);
  }
}

TEST(Receipt, RefusesEveryFlippedBit) {
  expect_refused_when_flipped(sign_receipt(some_receipt(), node()),
                              [](const Envelope& e) { return open_receipt(e).has_value(); });
}

TEST(Receipt, RefusesASignerThatIsNotItsNode) {
  EXPECT_EQ(open_receipt(sign_receipt(some_receipt(), owner())).error().code, Error::not_permitted);
}

TEST(Receipt, RefusesFieldsOutOfRange) {
  using Statement = proto::ReceiptStatement;
  EXPECT_EQ(receipt_error([](Statement& s) { s.set_version(2); }), Error::version);
  EXPECT_EQ(receipt_error([](Statement& s) { s.set_kind(0); }), Error::damaged);
  EXPECT_EQ(receipt_error([](Statement& s) { s.set_kind(5); }), Error::damaged);
  EXPECT_EQ(receipt_error([](Statement& s) { s.set_kind(257); }), Error::damaged);
  EXPECT_EQ(receipt_error([](Statement& s) { s.set_bytes(0); }), Error::damaged);
  EXPECT_EQ(receipt_error([](Statement& s) { s.set_bytes((8U << 20U) + 1); }), Error::damaged);
  EXPECT_EQ(receipt_error([](Statement& s) { s.set_at_ms(-1); }), Error::damaged);
  EXPECT_EQ(receipt_error([](Statement& s) { s.set_at_ms(kInstantMax.ms + 1); }), Error::damaged);
  EXPECT_EQ(receipt_error([](Statement& s) { s.set_deadline_ms(0); }), Error::damaged);
  EXPECT_EQ(receipt_error([](Statement& s) { s.clear_owner(); }), Error::damaged);
}

// Leases and removals share their first fields, so only the context keeps one from passing for the other.
TEST(Statements, OneKindNeverPassesForAnother) {
  EXPECT_EQ(open_removal(sign_lease(some_lease(), owner())).error().code, Error::not_permitted);
  EXPECT_EQ(open_lease(sign_removal(some_removal(), owner())).error().code, Error::not_permitted);
  EXPECT_EQ(open_receipt(sign_lease(some_lease(), node())).error().code, Error::not_permitted);
}

Inquiry some_inquiry() {
  const std::vector<ShardId> shards{filled<ShardId>(0x11), filled<ShardId>(0x22)};
  return {InquiryKind::holdings, node_id_of(node().public_key()), owner_id(), subject_of(shards)};
}
Puncture some_puncture() {
  return {filled<VolumeId>(0x33), owner_id(), Instant{1'700'000'000'000}, Instant{1'700'000'060'000}};
}

TEST(Inquiry, SaysWhatWasSigned) {
  const auto opened = open_inquiry(sign_inquiry(some_inquiry(), owner()));
  ASSERT_TRUE(opened) << opened.error();
  EXPECT_EQ(opened->kind, InquiryKind::holdings);
  EXPECT_EQ(opened->node, some_inquiry().node);
  EXPECT_EQ(opened->owner, owner_id());
  EXPECT_EQ(opened->subject, some_inquiry().subject);
  EXPECT_EQ(opened->subject.hex(), sha256(Bytes([] {
                                     Bytes both(32, std::byte{0x11});
                                     both.insert(both.end(), 32, std::byte{0x22});
                                     return both;
                                   }()))
                                       .hex());
}

TEST(Inquiry, IsRefusedWhenAnyBitIsFlippedOrAnotherSigned) {
  expect_refused_when_flipped(sign_inquiry(some_inquiry(), owner()), open_inquiry);
  EXPECT_EQ(open_inquiry(sign_inquiry(some_inquiry(), node())).error().code, Error::not_permitted);
  EXPECT_EQ(open_inquiry(sign_removal(some_removal(), owner())).error().code, Error::not_permitted);
  auto statement = statement_of<proto::InquiryStatement>(sign_inquiry(some_inquiry(), owner()));
  statement.set_kind(3);
  EXPECT_EQ(open_inquiry(signed_by(owner(), "ephfs inquiry", statement)).error().code, Error::damaged);
}

TEST(Puncture, SaysWhatWasSigned) {
  const auto opened = open_puncture(sign_puncture(some_puncture(), owner()));
  ASSERT_TRUE(opened) << opened.error();
  EXPECT_EQ(opened->volume, some_puncture().volume);
  EXPECT_EQ(opened->until, some_puncture().until);
  EXPECT_EQ(opened->at, some_puncture().at);
}

TEST(Puncture, IsRefusedWhenAnyBitIsFlippedOrItCannotBe) {
  expect_refused_when_flipped(sign_puncture(some_puncture(), owner()), open_puncture);
  EXPECT_EQ(open_puncture(sign_puncture(some_puncture(), node())).error().code, Error::not_permitted);
  Puncture early = some_puncture();
  early.at = early.until - Milliseconds{1};
  EXPECT_EQ(open_puncture(sign_puncture(early, owner())).error().code, Error::damaged);
}

// For who trusts where it comes from: what it says, without the cost of its signature.
TEST(Receipt, CanBeReadWithoutItsSignature) {
  auto envelope = sign_receipt(some_receipt(), node());
  envelope.signature.mutable_view()[0] ^= std::byte{1};
  EXPECT_FALSE(open_receipt(envelope));
  const auto read = read_receipt(envelope);
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(read->at, some_receipt().at);
  envelope.signer = owner().public_key();
  EXPECT_EQ(read_receipt(envelope).error().code, Error::not_permitted);
}

ShareGrant some_grant() {
  ShareGrant grant;
  grant.share = filled<ShareId>(0x11);
  grant.node = node_id_of(node().public_key());
  grant.owner = owner_id();
  grant.deadline = Deadline(Instant{1'800'000'000'000});
  grant.fetches_max = 3;
  grant.token_hash = filled<Hash>(0x22);
  grant.content_hash = filled<Hash>(0x33);
  grant.content_bytes = 4096;
  return grant;
}

template <class Change>
Error grant_error(Change change) {
  auto statement = statement_of<proto::ShareGrantStatement>(sign_share_grant(some_grant(), owner()));
  change(statement);
  const auto opened = open_share_grant(signed_by(owner(), "ephfs share", statement));
  EXPECT_FALSE(opened);
  return opened ? Error::io : opened.error().code;
}

TEST(Share, ReadsBackWhatWasSigned) {
  for (const std::uint32_t most : {0U, 1U, kShareFetchesMax}) {
    ShareGrant grant = some_grant();
    grant.fetches_max = most;
    grant.content_bytes = most == 0 ? 1 : kShareBytesMax;
    EXPECT_EQ(open_share_grant(sign_share_grant(grant, owner())).value(), grant);
  }
  const ShareDrop drop{filled<ShareId>(0x11), node_id_of(node().public_key()), owner_id()};
  const auto read = open_share_drop(sign_share_drop(drop, owner()));
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(read->share, drop.share);
  EXPECT_EQ(read->node, drop.node);
  EXPECT_EQ(read->owner, drop.owner);
}

TEST(Share, RefusesEveryFlippedBit) {
  expect_refused_when_flipped(sign_share_grant(some_grant(), owner()),
                              [](const Envelope& e) { return open_share_grant(e).has_value(); });
  const ShareDrop drop{filled<ShareId>(0x11), node_id_of(node().public_key()), owner_id()};
  expect_refused_when_flipped(sign_share_drop(drop, owner()),
                              [](const Envelope& e) { return open_share_drop(e).has_value(); });
}

TEST(Share, RefusesWhatIsOutOfRange) {
  using Statement = proto::ShareGrantStatement;
  EXPECT_EQ(grant_error([](Statement& s) { s.set_version(2); }), Error::version);
  EXPECT_EQ(grant_error([](Statement& s) { s.set_share(std::string(15, 'x')); }), Error::damaged);
  EXPECT_EQ(grant_error([](Statement& s) { s.set_node(std::string(32, '\0')); }), Error::damaged);
  EXPECT_EQ(grant_error([](Statement& s) { s.set_owner(std::string(32, 'x')); }), Error::not_permitted);
  EXPECT_EQ(grant_error([](Statement& s) { s.set_deadline_ms(Deadline::never().raw()); }), Error::damaged);
  EXPECT_EQ(grant_error([](Statement& s) { s.set_deadline_ms(-1); }), Error::damaged);
  EXPECT_EQ(grant_error([](Statement& s) { s.set_fetches_max(kShareFetchesMax + 1); }), Error::damaged);
  EXPECT_EQ(grant_error([](Statement& s) { s.clear_token_hash(); }), Error::damaged);
  EXPECT_EQ(grant_error([](Statement& s) { s.clear_content_hash(); }), Error::damaged);
  EXPECT_EQ(grant_error([](Statement& s) { s.set_content_bytes(0); }), Error::damaged);
  EXPECT_EQ(grant_error([](Statement& s) { s.set_content_bytes(kShareBytesMax + 1); }), Error::damaged);
}

TEST(Share, IsNotTakenForAnotherStatement) {
  const ShareDrop drop{filled<ShareId>(0x11), node_id_of(node().public_key()), owner_id()};
  EXPECT_EQ(open_share_grant(sign_share_drop(drop, owner())).error().code, Error::not_permitted);
  EXPECT_EQ(open_share_drop(sign_share_grant(some_grant(), owner())).error().code, Error::not_permitted);
  EXPECT_EQ(open_share_grant(sign_lease(some_lease(), owner())).error().code, Error::not_permitted);
}

}  // namespace
}  // namespace ephfs::core
