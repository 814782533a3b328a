// SPDX-License-Identifier: Apache-2.0
// The bytes on the wire: the worked example of docs/protocol.md, and what is refused.
#include "net/wire.hpp"

#include <gtest/gtest.h>

#include "core/little_endian.hpp"
#include "net/messages.pb.h"
#include "tests/support/sample_shard.hpp"

namespace ephfs::net::testing {
namespace {

using core::Bytes;
using core::Error;
using ephfs::testing::Random;

core::ShardId example_shard() {
  return *core::ShardId::from_hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
}

std::string hex_of(MessageKind kind, std::uint64_t id, std::uint64_t budget_ms, const Bytes& body) {
  return core::to_hex(pack_packet({kind, id, budget_ms, body}));
}

TEST(WireTest, TheWorkedExampleHolds) {
  Hello hello;
  hello.pool = *core::PoolId::from_hex("00112233445566778899aabbccddeeff");
  hello.agent = "ephfs/0.1.0";
  hello.members = {{*core::NodeId::from_hex("ff" + example_shard().hex().substr(2)), "127.0.0.1:7400"}};
  const Message greeting = pack_hello(hello);
  EXPECT_EQ(hex_of(greeting.kind, 0, 0, greeting.body),
            "08012221"
            "0801"
            "121000112233445566778899aabbccddeeff"
            "1a0b65706866732f302e312e30");
  EXPECT_EQ(core::to_hex(greeting.payload.view()),
            "0a320a20ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
            "120e3132372e302e302e313a37343030");

  const FetchRequest request{example_shard(), 8192, 4096, false};
  const Message fetch = pack_fetch(request);
  EXPECT_EQ(hex_of(fetch.kind, 7, 2500, fetch.body),
            "0811"
            "1007"
            "18c413"
            "2228"
            "0a20000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
            "108040"
            "188020");

  ShardRange range;
  range.bytes = core::SharedBytes(core::Buffer(4096));
  range.offset = 8192;
  range.shard_bytes = 1U << 20U;
  const Message reply = pack_range(range);
  EXPECT_EQ(hex_of(reply.kind, 7, 0, reply.body),
            "0805"
            "1007"
            "2207"
            "088040"
            "10808040");

  const Bytes failure = pack_failure(core::fail(Error::not_found, "shard 0001"));
  EXPECT_EQ(hex_of(MessageKind::failure, 7, 0, failure),
            "0806"
            "1007"
            "2217"
            "0a096e6f745f666f756e64"
            "120a73686172642030303031");
  EXPECT_EQ(hex_of(MessageKind::cancel, 7, 0, {}),
            "0804"
            "1007");
}

TEST(WireTest, ReadsBackWhatItWrote) {
  Random random;
  EPHFS_TRACE_SEED(random);
  const auto shard = ephfs::testing::make_shard(random, 50'000);
  const auto owner = ephfs::testing::make_signer(random);
  const auto envelope = core::sign_lease(
      ephfs::testing::make_lease(shard, core::node_id_of(owner.public_key()), owner, core::Instant{1'800'000'000'000}),
      owner);
  EXPECT_EQ(*unpack_store(pack_store(envelope, shard.source.bytes)), envelope);
  EXPECT_EQ(*unpack_renew(pack_renew(envelope)), envelope);
  EXPECT_EQ(*unpack_remove(pack_remove(envelope)), envelope);
  EXPECT_EQ(*unpack_receipt(pack_receipt(envelope)), envelope);

  const Challenge challenge{shard.id, {}, {0, 12, 5}};
  const auto same = unpack_challenge(pack_challenge(challenge));
  ASSERT_TRUE(same);
  EXPECT_EQ(same->leaves, challenge.leaves);
  Proof proof;
  proof.shard_bytes = shard.bytes();
  proof.receipt = envelope;
  for (const auto leaf : challenge.leaves) {
    const std::size_t start = leaf * core::kLeafBytes;
    proof.leaves.push_back({shard.source.bytes.slice(start, std::min(core::kLeafBytes, shard.bytes() - start)),
                            shard.tree().prove_range(leaf, 1)});
  }
  const auto proven = unpack_proof(pack_proof(proof), challenge);
  ASSERT_TRUE(proven) << proven.error();
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(std::ranges::equal(proven->leaves[i].bytes.view(), proof.leaves[i].bytes.view()));
    EXPECT_EQ(proven->leaves[i].path, proof.leaves[i].path);
  }

  const ShardInquiry inquiry{envelope, {shard.id, example_shard()}};
  const auto question = unpack_inquiry(pack_inquiry(MessageKind::deletions, inquiry));
  ASSERT_TRUE(question) << question.error();
  EXPECT_EQ(question->order, envelope);
  EXPECT_EQ(question->shards, inquiry.shards);
  EXPECT_EQ(*unpack_receipts(pack_receipts({envelope, envelope})), (std::vector{envelope, envelope}));
  const std::vector<Holding> holdings{
      {example_shard(), 7, 8, core::Deadline(core::Instant{9}), false},
      {*core::ShardId::from_hex(std::string(64, 'f')), 1, 0, core::Deadline::never(), true}};
  EXPECT_EQ(*unpack_holdings(pack_holdings(holdings)), holdings);

  const NodeStatus status{core::node_id_of(owner.public_key()), 1, 2, 3, core::Instant{4}};
  const auto told = unpack_status(pack_status(status));
  ASSERT_TRUE(told);
  EXPECT_EQ(told->node, status.node);
  EXPECT_EQ(told->used, 2U);
  const std::vector<Member> members{{status.node, "a:1"}, {core::NodeId{}, ""}};
  EXPECT_EQ(*unpack_members(pack_members(members)), members);
}

TEST(WireTest, RefusesWhatIsOutOfBounds) {
  const auto message = [](MessageKind kind, const auto& proto) {
    const std::string text = proto.SerializeAsString();
    return Message{kind, core::to_bytes(core::as_bytes(text)), {}};
  };
  pb::Fetch fetch;
  fetch.set_shard("short");
  fetch.set_length(1);
  EXPECT_EQ(unpack_fetch(message(MessageKind::fetch, fetch)).error().code, Error::protocol);
  fetch.set_shard(std::string(32, 'x'));
  fetch.set_length(0);
  EXPECT_EQ(unpack_fetch(message(MessageKind::fetch, fetch)).error().code, Error::invalid_argument);
  fetch.set_length(kShardBytesMax + 1);
  EXPECT_EQ(unpack_fetch(message(MessageKind::fetch, fetch)).error().code, Error::invalid_argument);

  pb::Prove prove;
  prove.set_shard(std::string(32, 'x'));
  prove.set_nonce(std::string(31, 'x'));
  prove.add_leaves(0);
  EXPECT_EQ(unpack_challenge(message(MessageKind::prove, prove)).error().code, Error::protocol);
  prove.set_nonce(std::string(32, 'x'));
  for (std::size_t i = 0; i < kChallengeLeavesMax; ++i) prove.add_leaves(0);
  EXPECT_EQ(unpack_challenge(message(MessageKind::prove, prove)).error().code, Error::invalid_argument);

  pb::Join join;
  join.set_secret(std::string(15, 'x'));
  EXPECT_EQ(unpack_join(message(MessageKind::join, join)).error().code, Error::protocol);
  join.set_secret(std::string(16, 'x'));
  join.set_address(std::string(kAddressBytesMax + 1, 'a'));
  EXPECT_EQ(unpack_join(message(MessageKind::join, join)).error().code, Error::protocol);
  join.set_address("a\nb:1");
  EXPECT_EQ(unpack_join(message(MessageKind::join, join)).error().code, Error::protocol);

  std::vector<Member> many(kMembersMax + 1);
  EXPECT_EQ(unpack_members(pack_members(many)).error().code, Error::protocol);

  pb::Store store;
  store.set_lease("none");
  EXPECT_EQ(unpack_store(message(MessageKind::store, store)).error().code, Error::protocol) << "no shard";
  Message with_shard = message(MessageKind::store, store);
  with_shard.payload = core::SharedBytes(core::Buffer(kShardBytesMax + 1));
  EXPECT_EQ(unpack_store(with_shard).error().code, Error::protocol) << "too long a shard";
  with_shard.payload = with_shard.payload.slice(0, 10);
  EXPECT_EQ(unpack_store(with_shard).error().code, Error::protocol) << "no envelope";

  pb::ShardInquiry question;
  question.set_order("none");
  Message asked = message(MessageKind::deletions, question);
  asked.payload = core::SharedBytes(core::Buffer(32));
  EXPECT_EQ(unpack_inquiry(asked).error().code, Error::protocol) << "no envelope";
  Random random;
  const auto owner = ephfs::testing::make_signer(random);
  core::Inquiry signed_one;
  signed_one.node = core::node_id_of(owner.public_key());
  signed_one.owner = ephfs::testing::owner_id_of(owner);
  signed_one.subject = core::subject_of({});
  question.set_order(std::string(core::as_text(core::sign_inquiry(signed_one, owner).serialize())));
  asked = message(MessageKind::deletions, question);
  EXPECT_EQ(unpack_inquiry(asked).error().code, Error::invalid_argument) << "about nothing";
  asked.payload = core::SharedBytes(core::Buffer(33));
  EXPECT_EQ(unpack_inquiry(asked).error().code, Error::protocol) << "half an id";
  asked.payload = core::SharedBytes(core::Buffer((kInquiryShardsMax + 1) * 32));
  EXPECT_EQ(unpack_inquiry(asked).error().code, Error::protocol) << "too many";

  const auto payload = [](const auto& list) {
    const std::string text = list.SerializeAsString();
    return Message{MessageKind::reply, {}, core::SharedBytes::copy_of(core::as_bytes(text))};
  };
  pb::ReceiptList receipts;
  receipts.add_receipts("none");
  EXPECT_EQ(unpack_receipts(payload(receipts)).error().code, Error::protocol);
  pb::HoldingList list;
  auto* holding = list.add_holdings();
  holding->set_shard(std::string(32, 'b'));
  EXPECT_EQ(unpack_holdings(payload(list)).error().code, Error::protocol) << "an empty shard";
  holding->set_bytes(1);
  EXPECT_TRUE(unpack_holdings(payload(list)));
  holding->set_deadline_ms(-1);
  EXPECT_EQ(unpack_holdings(payload(list)).error().code, Error::protocol);
  holding->set_deadline_ms(5);
  *list.add_holdings() = list.holdings(0);
  EXPECT_EQ(unpack_holdings(payload(list)).error().code, Error::protocol) << "twice the same";
  list.Clear();
  for (std::size_t i = 0; i <= kHoldingsMax; ++i) {
    core::ShardId id;
    core::store_le(id.mutable_view(), static_cast<std::uint16_t>((i & 0xffU) << 8U | i >> 8U));
    auto* entry = list.add_holdings();
    entry->set_shard(id.text());
    entry->set_bytes(1);
  }
  EXPECT_EQ(unpack_holdings(payload(list)).error().code, Error::protocol) << "too many";

  pb::PutShare put;
  put.set_grant("none");
  EXPECT_EQ(unpack_put_share(message(MessageKind::put_share, put)).error().code, Error::protocol) << "no content";
  Message with_content = message(MessageKind::put_share, put);
  with_content.payload = core::SharedBytes(core::Buffer(core::kShareBytesMax + 1));
  EXPECT_EQ(unpack_put_share(with_content).error().code, Error::protocol) << "too long a content";
  with_content.payload = with_content.payload.slice(0, 10);
  EXPECT_EQ(unpack_put_share(with_content).error().code, Error::protocol) << "no envelope";
  pb::TakeShare take;
  take.set_share(std::string(15, 'x'));
  take.set_token(std::string(32, 'x'));
  EXPECT_EQ(unpack_share_claim(message(MessageKind::take_share, take)).error().code, Error::protocol);
  take.set_share(std::string(16, 'x'));
  EXPECT_TRUE(unpack_share_claim(message(MessageKind::take_share, take)));
  take.set_token(std::string(33, 'x'));
  EXPECT_EQ(unpack_share_claim(message(MessageKind::take_share, take)).error().code, Error::protocol);
  pb::TakeShareReply taken;
  taken.set_fetches_left(core::kShareFetchesMax + 1);
  Message taken_reply = message(MessageKind::reply, taken);
  EXPECT_EQ(unpack_taken_share(taken_reply).error().code, Error::protocol) << "no content";
  taken_reply.payload = with_content.payload;
  EXPECT_EQ(unpack_taken_share(taken_reply).error().code, Error::protocol) << "a count past its bound";
  pb::DropShare drop;
  EXPECT_EQ(unpack_drop_share(message(MessageKind::drop_share, drop)).error().code, Error::protocol);

  pb::Failure failure;
  failure.set_code("out_of_cheese");
  failure.set_detail(std::string(10'000, '\x1b'));
  const std::string text = failure.SerializeAsString();
  const auto read = unpack_failure(core::as_bytes(text));
  EXPECT_EQ(read.code, Error::protocol);
  EXPECT_EQ(read.detail, std::string(kFailureDetailBytesMax, '?'));
}

// Every reader, on noise and on good messages with bytes changed: an answer or a refusal, never worse.
TEST(WireTest, SurvivesNoise) {
  Random random;
  EPHFS_TRACE_SEED(random);
  Hello hello;
  hello.agent = "x";
  hello.members = {{core::NodeId{}, "a:1"}};
  const FetchRequest request{example_shard(), 0, 4096, true};
  const Challenge challenge{example_shard(), {}, {0, 1}};
  std::vector<Message> seeds{pack_hello(hello),
                             pack_fetch(request),
                             pack_challenge(challenge),
                             pack_join({random.bytes(kJoinSecretBytes), "a:1"}),
                             pack_members(hello.members),
                             pack_status({}),
                             pack_holdings({{example_shard(), 7, 8, {}, true}}),
                             pack_share_claim({core::ShareId{}, core::Hash{}})};
  ShardRange range;
  range.bytes = core::SharedBytes::copy_of(random.bytes(4096));
  range.shard_bytes = 100'000;
  range.proof.resize(5);
  seeds.push_back(pack_range(range));
  for (int round = 0; round < 20'000; ++round) {
    Message message = seeds[random.below(seeds.size())];
    if (random.chance(4)) message.body = random.bytes(random.below(200));
    for (std::uint64_t changes = random.below(4); changes > 0 && !message.body.empty(); --changes) {
      message.body[random.below(message.body.size())] = static_cast<std::byte>(random.below(256));
    }
    if (random.chance(3)) message.payload = core::SharedBytes::copy_of(random.bytes(random.below(300)));
    (void)unpack_packet(message.body);
    (void)unpack_failure(message.body);
    (void)unpack_hello(message, kProtocolVersion);
    (void)unpack_store(message);
    (void)unpack_renew(message);
    (void)unpack_remove(message);
    (void)unpack_receipt(message);
    (void)unpack_fetch(message);
    (void)unpack_challenge(message);
    (void)unpack_status(message);
    (void)unpack_join(message);
    (void)unpack_join_reply(message);
    (void)unpack_members(message);
    (void)unpack_inquiry(message);
    (void)unpack_receipts(message);
    (void)unpack_holdings(message);
    (void)unpack_proof(message, challenge);
    (void)unpack_put_share(message);
    (void)unpack_share_claim(message);
    (void)unpack_taken_share(message);
    (void)unpack_drop_share(message);
    if (const auto got = unpack_range(message, request)) {
      EXPECT_EQ(got->offset, 0U);
      EXPECT_EQ(got->bytes.size(), std::min<std::uint64_t>(4096, got->shard_bytes));
    }
  }
}

}  // namespace
}  // namespace ephfs::net::testing
