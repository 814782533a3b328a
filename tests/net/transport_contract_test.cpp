// SPDX-License-Identifier: Apache-2.0
// What every Transport must do, on TLS over loopback and on the simulated network.
#include "tests/net/net_rig.hpp"

namespace ephfs::net::testing {
namespace {

class TransportContract : public ::testing::TestWithParam<RigKind> {
 protected:
  struct Pair {
    std::unique_ptr<Channel> client;
    std::unique_ptr<Channel> server;
  };

  void SetUp() override {
    auto listening = server_->listen(rig_->any_address("server"));
    ASSERT_TRUE(listening) << listening.error();
    listener_ = std::move(*listening);
  }
  void TearDown() override { listener_.reset(); }

  awaitable<Pair> connect() {
    auto connected = co_await client_->connect(listener_->address(), server_id_.id, rig_->in(10s));
    EXPECT_TRUE(connected) << connected.error();
    auto accepted = co_await listener_->accept();
    EXPECT_TRUE(accepted) << accepted.error();
    Pair pair;
    if (connected) pair.client = std::move(*connected);
    if (accepted) pair.server = std::move(*accepted);
    co_return pair;
  }
  template <class T>
  static void expect_code(const Result<T>& result, Error code) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, code) << result.error();
  }
  awaitable<void> expect_passes(Channel& from, Channel& to, Frame frame) {
    const auto sent = co_await from.send(frame);
    EXPECT_TRUE(sent) << sent.error();
    const auto received = co_await to.receive();
    CO_ASSERT_TRUE(received);
    EXPECT_TRUE(same_frame(*received, frame));
  }

  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
  Identity client_id_ = make_identity(random_);
  Identity server_id_ = make_identity(random_);
  std::unique_ptr<NetRig> rig_ = GetParam().make();
  std::unique_ptr<Transport> client_ = rig_->transport(client_id_, "client");
  std::unique_ptr<Transport> server_ = rig_->transport(server_id_, "server");
  std::unique_ptr<Listener> listener_;
};

TEST_P(TransportContract, TellsEachEndWhoTheOtherIs) {
  rig_->run([this]() -> awaitable<void> {
    const Pair pair = co_await connect();
    CO_ASSERT_TRUE(pair.client && pair.server);
    EXPECT_EQ(pair.client->peer_id(), server_id_.id);
    EXPECT_EQ(pair.client->peer_key(), server_id_.key);
    EXPECT_EQ(pair.server->peer_id(), client_id_.id);
    EXPECT_EQ(pair.server->peer_key(), client_id_.key);
    EXPECT_EQ(pair.client->peer_address(), listener_->address());
    EXPECT_FALSE(pair.server->peer_address().empty());
  });
}

TEST_P(TransportContract, CarriesFramesOfEverySizeBothWays) {
  rig_->run([this]() -> awaitable<void> {
    const Pair pair = co_await connect();
    CO_ASSERT_TRUE(pair.client && pair.server);
    const std::vector<std::pair<std::size_t, std::size_t>> sizes{
        {1, 0}, {0, 0}, {0, 1}, {100, 1}, {100, 16'384}, {kHeaderBytesMax, 0}, {17, 1'000'003}};
    for (const auto& [header, payload] : sizes) {
      Frame there = make_frame(random_, header, payload);
      co_await expect_passes(*pair.client, *pair.server, std::move(there));
      Frame back = make_frame(random_, header, payload);
      co_await expect_passes(*pair.server, *pair.client, std::move(back));
    }
  });
}

TEST_P(TransportContract, CarriesTheLargestFrame) {
  rig_->run([this]() -> awaitable<void> {
    const Pair pair = co_await connect();
    CO_ASSERT_TRUE(pair.client && pair.server);
    const Frame frame = make_frame(random_, kHeaderBytesMax, kPayloadBytesMax);
    core::TaskGroup tasks;
    tasks.spawn(rig_->executor(), [&]() -> awaitable<void> {
      const auto sent = co_await pair.client->send(frame);
      EXPECT_TRUE(sent) << sent.error();
    });
    const auto received = co_await pair.server->receive();
    co_await tasks.join();
    CO_ASSERT_TRUE(received);
    EXPECT_TRUE(same_frame(*received, frame));
  });
}

TEST_P(TransportContract, KeepsTheOrderInBothDirectionsAtOnce) {
  rig_->run([this]() -> awaitable<void> {
    const Pair pair = co_await connect();
    CO_ASSERT_TRUE(pair.client && pair.server);
    constexpr unsigned kFrames = 300;
    const auto send_all = [&](Channel* channel) -> awaitable<void> {
      for (unsigned i = 0; i < kFrames; ++i) {
        Frame frame;
        frame.header = {static_cast<std::byte>(i % 256), static_cast<std::byte>(i / 256)};
        const auto sent = co_await channel->send(std::move(frame));
        EXPECT_TRUE(sent) << sent.error();
      }
    };
    const auto receive_all = [&](Channel* channel) -> awaitable<void> {
      for (unsigned i = 0; i < kFrames; ++i) {
        const auto frame = co_await channel->receive();
        CO_ASSERT_TRUE(frame);
        EXPECT_EQ(frame->header, (Bytes{static_cast<std::byte>(i % 256), static_cast<std::byte>(i / 256)}));
      }
    };
    core::TaskGroup tasks;
    tasks.spawn(rig_->executor(), [&] { return send_all(pair.client.get()); });
    tasks.spawn(rig_->executor(), [&] { return send_all(pair.server.get()); });
    tasks.spawn(rig_->executor(), [&] { return receive_all(pair.client.get()); });
    tasks.spawn(rig_->executor(), [&] { return receive_all(pair.server.get()); });
    co_await tasks.join();
  });
}

TEST_P(TransportContract, ClosingEndsBothEnds) {
  rig_->run([this]() -> awaitable<void> {
    const Pair pair = co_await connect();
    CO_ASSERT_TRUE(pair.client && pair.server);
    core::TaskGroup tasks;
    const auto expect_end = [&](Channel* channel) -> awaitable<void> {
      expect_code(co_await channel->receive(), Error::unreachable);
      expect_code(co_await channel->receive(), Error::unreachable);
    };
    tasks.spawn(rig_->executor(), [&] { return expect_end(pair.client.get()); });
    tasks.spawn(rig_->executor(), [&] { return expect_end(pair.server.get()); });
    co_await core::sleep_for(rig_->clock(), 1ms);
    pair.client->close();
    pair.client->close();
    co_await tasks.join();
    expect_code(co_await pair.client->send(Frame{}), Error::unreachable);
    // The other end hears of it with the network's delay, as its receive above has.
    expect_code(co_await pair.server->send(Frame{}), Error::unreachable);
  });
}

TEST_P(TransportContract, DeliversWhatWasSentBeforeTheEnd) {
  rig_->run([this]() -> awaitable<void> {
    const Pair pair = co_await connect();
    CO_ASSERT_TRUE(pair.client && pair.server);
    const Frame frame = make_frame(random_, 10, 1000);
    EXPECT_TRUE(co_await pair.client->send(frame));
    pair.client->close();
    const auto received = co_await pair.server->receive();
    CO_ASSERT_TRUE(received);
    EXPECT_TRUE(same_frame(*received, frame));
    expect_code(co_await pair.server->receive(), Error::unreachable);
  });
}

TEST_P(TransportContract, RefusesToSendAFramePastItsBounds) {
  rig_->run([this]() -> awaitable<void> {
    const Pair pair = co_await connect();
    CO_ASSERT_TRUE(pair.client && pair.server);
    Frame header = make_frame(random_, kHeaderBytesMax + 1, 0);
    expect_code(co_await pair.client->send(std::move(header)), Error::invalid_argument);
    Frame payload;
    payload.payload = core::SharedBytes(core::Buffer(kPayloadBytesMax + 1));
    expect_code(co_await pair.client->send(std::move(payload)), Error::invalid_argument);
    Frame good = make_frame(random_, 5, 5);
    co_await expect_passes(*pair.client, *pair.server, std::move(good));
  });
}

TEST_P(TransportContract, RefusesSomebodyElse) {
  rig_->run([this]() -> awaitable<void> {
    const auto wrong = co_await client_->connect(listener_->address(), client_id_.id, rig_->in(10s));
    expect_code(wrong, Error::not_permitted);
    EXPECT_NE(wrong.error().detail.find(server_id_.id.hex()), std::string::npos) << wrong.error();
    const auto right = co_await client_->connect(listener_->address(), server_id_.id, rig_->in(10s));
    EXPECT_TRUE(right) << right.error();
  });
}

TEST_P(TransportContract, IsUnreachableWhereNobodyListens) {
  rig_->run([this]() -> awaitable<void> {
    expect_code(co_await client_->connect(rig_->dead_address(), server_id_.id, rig_->in(10s)), Error::unreachable);
    const std::string address = listener_->address();
    listener_->close();
    expect_code(co_await listener_->accept(), Error::unreachable);
    expect_code(co_await listener_->accept(), Error::unreachable);
    expect_code(co_await client_->connect(address, server_id_.id, rig_->in(10s)), Error::unreachable);
  });
}

TEST_P(TransportContract, ClosingEndsAnAcceptUnderWay) {
  rig_->run([this]() -> awaitable<void> {
    core::TaskGroup tasks;
    tasks.spawn(rig_->executor(),
                [this]() -> awaitable<void> { expect_code(co_await listener_->accept(), Error::unreachable); });
    co_await core::sleep_for(rig_->clock(), 1ms);
    listener_->close();
    co_await tasks.join();
  });
}

TEST_P(TransportContract, SaysWhenAnAddressIsTaken) {
  expect_code(server_->listen(listener_->address()), Error::busy);
}

INSTANTIATE_TEST_SUITE_P(Transports, TransportContract, ::testing::Values(kSimulated, kTls), rig_name);

}  // namespace
}  // namespace ephfs::net::testing
