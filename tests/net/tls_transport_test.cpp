// SPDX-License-Identifier: Apache-2.0
// What the port of a real node meets: slow strangers, other protocols, frames past their bounds, older TLS, and several
// threads.
#include "net/tls_transport.hpp"

#include <thread>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "core/config.hpp"
#include "net/peer_server.hpp"
#include "net/remote_peer.hpp"
#include "net/tls_connection.hpp"
#include "net/tls_identity.hpp"
#include "tests/net/net_rig.hpp"
#include "tests/support/fake_membership.hpp"
#include "tests/support/fake_peer.hpp"

namespace ephfs::net::testing {
namespace {

using asio::ip::tcp;
using ephfs::testing::FakeMembership;
using ephfs::testing::FakePeer;

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);

tcp::endpoint endpoint_of(const std::string& address) {
  const auto where = *core::parse_address(address);
  return {asio::ip::make_address(where.host), where.port};
}

// A node that serves a fake peer, and a member with a session to it.
class TlsNodeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    membership_.add({member_id_.id, ""});
    auto listener = node_transport_->listen("127.0.0.1:0");
    ASSERT_TRUE(listener) << listener.error();
    address_ = (*listener)->address();
    server_ = std::make_unique<PeerServer>(rig_.executor(), rig_.clock(), std::move(*listener), node_, membership_);
    server_->start();
    LinkContext context{rig_.executor(), rig_.clock(), *member_transport_, membership_, tasks_};
    peer_ = std::make_unique<RemotePeer>(std::move(context), Member{node_id_.id, address_});
  }
  void TearDown() override {
    peer_->close();
    rig_.run([this]() -> awaitable<void> {
      co_await server_->stop();
      co_await tasks_.join();
    });
    peer_.reset();
    server_.reset();
  }

  awaitable<void> expect_serves() {
    CallLimits limits{rig_.in(10s), {}};
    const auto status = co_await peer_->status(std::move(limits));
    EXPECT_TRUE(status) << status.error();
  }
  awaitable<tcp::socket> connect_raw() {
    tcp::socket socket(rig_.executor());
    const auto [error] = co_await socket.async_connect(endpoint_of(address_), kAsTuple);
    EXPECT_FALSE(error) << error.message();
    co_return socket;
  }
  // Sends something and reads until the other end closes.
  awaitable<void> expect_closed_after(std::string garbage) {
    tcp::socket socket = co_await connect_raw();
    (void)co_await asio::async_write(socket, asio::buffer(garbage), kAsTuple);
    co_await expect_end(socket);
  }
  static awaitable<void> expect_end(tcp::socket& socket) {
    std::array<char, 4096> buffer{};
    for (;;) {
      const auto [error, size] = co_await socket.async_read_some(asio::buffer(buffer), kAsTuple);
      if (error) break;
    }
  }

  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
  std::vector<std::string> lines_;
  TlsRig rig_{[this](std::string line) { lines_.push_back(std::move(line)); }};
  Identity node_id_ = make_identity(random_);
  Identity member_id_ = make_identity(random_);
  FakeMembership membership_{*core::PoolId::from_bytes(random_.bytes(core::PoolId::kSize))};
  FakePeer node_{rig_.clock(), node_id_.seed, 64U << 20U};
  std::unique_ptr<Transport> node_transport_ = rig_.transport(node_id_, "");
  std::unique_ptr<Transport> member_transport_ = rig_.transport(member_id_, "");
  core::TaskGroup tasks_;
  std::string address_;
  std::unique_ptr<PeerServer> server_;
  std::unique_ptr<RemotePeer> peer_;
};

TEST_F(TlsNodeTest, ClosesOnGarbageAndOtherProtocolsAndServesOn) {
  rig_.run([this]() -> awaitable<void> {
    co_await expect_serves();
    for (int i = 0; i < 5; ++i) {
      co_await expect_closed_after("GET / HTTP/1.1\r\nHost: ephfs\r\n\r\n");
      co_await expect_closed_after("SSH-2.0-OpenSSH_9.2\r\n");
      std::string garbage(core::as_text(random_.bytes(2000)));
      co_await expect_closed_after(std::move(garbage));
      co_await expect_serves();
    }
    EXPECT_EQ(server_->session_count(), 1U) << "the member's session was replaced";
  });
  ASSERT_EQ(lines_.size(), 1U) << "one line a minute";
  EXPECT_NE(lines_[0].find("127.0.0.1:"), std::string::npos) << lines_[0];
}

TEST_F(TlsNodeTest, SlowStrangersKeepNobodyOut) {
  rig_.run([this]() -> awaitable<void> {
    std::vector<tcp::socket> silent;
    for (std::size_t i = 0; i < kHalfOpenMax + 10; ++i) silent.push_back(co_await connect_raw());
    co_await expect_serves();
    // The first of them had to make room for the last.
    co_await expect_end(silent.front());
  });
}

// A TLS client of our own making, below the frames.
class RawTls {
 public:
  RawTls(asio::any_io_executor executor, std::shared_ptr<asio::ssl::context> context)
      : context_(std::move(context)), stream_(std::move(executor), *context_) {}

  awaitable<bool> connect(std::string address) {
    const auto [refused] = co_await stream_.lowest_layer().async_connect(endpoint_of(address), kAsTuple);
    EXPECT_FALSE(refused) << refused.message();
    const auto [failed] = co_await stream_.async_handshake(asio::ssl::stream_base::client, kAsTuple);
    co_return !failed;
  }
  awaitable<void> send(Bytes bytes) {
    (void)co_await asio::async_write(stream_, asio::buffer(bytes.data(), bytes.size()), kAsTuple);
  }
  // Reads until the other end closes; what came.
  awaitable<std::size_t> drain() {
    std::size_t total = 0;
    std::array<char, 4096> buffer{};
    for (;;) {
      const auto [error, size] = co_await stream_.async_read_some(asio::buffer(buffer), kAsTuple);
      if (error) co_return total;
      total += size;
    }
  }

 private:
  std::shared_ptr<asio::ssl::context> context_;
  asio::ssl::stream<tcp::socket> stream_;
};

Bytes prefix_of(std::uint32_t header, std::uint32_t payload) {
  Bytes prefix;
  for (const std::uint32_t value : {header, payload}) {
    for (unsigned shift = 0; shift < 32; shift += 8) prefix.push_back(static_cast<std::byte>(value >> shift));
  }
  return prefix;
}

TEST_F(TlsNodeTest, FramesPastTheirBoundsEndTheirConnectionOnly) {
  rig_.run([this]() -> awaitable<void> {
    co_await expect_serves();
    const std::vector<std::pair<std::uint32_t, std::uint32_t>> sizes{
        {~0U, ~0U}, {kHeaderBytesMax + 1, 0}, {10, kPayloadBytesMax + 1}, {~0U, 0}, {0, ~0U}};
    for (const auto& [header, payload] : sizes) {
      RawTls raw(rig_.executor(), make_tls_context(member_id_.seed));
      CO_ASSERT_TRUE(co_await raw.connect(address_));
      Bytes prefix = prefix_of(header, payload);
      co_await raw.send(std::move(prefix));
      (void)co_await raw.drain();
      co_await expect_serves();
    }
  });
}

TEST_F(TlsNodeTest, GarbageInFramesEndsTheirConnectionOnly) {
  rig_.run([this]() -> awaitable<void> {
    co_await expect_serves();
    for (int i = 0; i < 20; ++i) {
      RawTls raw(rig_.executor(), make_tls_context(member_id_.seed));
      CO_ASSERT_TRUE(co_await raw.connect(address_));
      const auto size = static_cast<std::uint32_t>(random_.between(1, 500));
      Bytes frame = prefix_of(size, 0);
      const Bytes body = random_.bytes(size);
      frame.insert(frame.end(), body.begin(), body.end());
      co_await raw.send(std::move(frame));
      (void)co_await raw.drain();
    }
    co_await expect_serves();
  });
}

/// Passes on what comes, in pieces of any size, until an end closes.
awaitable<void> pass_on(tcp::socket& from, tcp::socket& to, Random& random) {
  std::array<char, 40'000> buffer{};
  for (;;) {
    const auto room = random.between(1, random.below(2) == 0 ? 100 : buffer.size());
    const auto [broken, size] = co_await from.async_read_some(asio::buffer(buffer.data(), room), kAsTuple);
    if (broken) co_return;
    const auto [failed, sent] = co_await asio::async_write(to, asio::buffer(buffer.data(), size), kAsTuple);
    if (failed) co_return;
  }
}

TEST_F(TlsNodeTest, FramesComeWholeInWhateverPieces) {
  rig_.run([this]() -> awaitable<void> {
    auto listener = node_transport_->listen("127.0.0.1:0");
    CO_ASSERT_TRUE(listener);
    tcp::acceptor between(rig_.executor(), tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    tcp::socket here(rig_.executor());
    tcp::socket there(rig_.executor());
    core::TaskGroup passing;
    passing.spawn(rig_.executor(), [&]() -> awaitable<void> {
      const auto [refused] = co_await between.async_accept(here, kAsTuple);
      const auto [failed] = co_await there.async_connect(endpoint_of((*listener)->address()), kAsTuple);
      EXPECT_FALSE(refused || failed);
      passing.spawn(rig_.executor(), [&] { return pass_on(here, there, random_); });
      passing.spawn(rig_.executor(), [&] { return pass_on(there, here, random_); });
    });
    std::string address = "127.0.0.1:" + std::to_string(between.local_endpoint().port());
    const auto client = co_await member_transport_->connect(std::move(address), node_id_.id, rig_.in(30s));
    CO_ASSERT_TRUE(client);
    const auto server = co_await (*listener)->accept();
    CO_ASSERT_TRUE(server);

    std::vector<Frame> frames;
    for (int i = 0; i < 60; ++i) {
      const std::size_t payload = i % 3 == 0 ? 0 : random_.below(i % 10 == 1 ? 300'000 : 20'000);
      frames.push_back(make_frame(random_, random_.below(i % 7 == 0 ? 40'000 : 200), payload));
    }
    core::TaskGroup sending;
    sending.spawn(rig_.executor(), [&]() -> awaitable<void> {
      for (const Frame& frame : frames) {
        const auto sent = co_await (*client)->send(frame);
        EXPECT_TRUE(sent) << sent.error();
      }
    });
    for (const Frame& frame : frames) {
      const auto received = co_await (*server)->receive();
      CO_ASSERT_TRUE(received);
      EXPECT_TRUE(same_frame(*received, frame));
    }
    co_await sending.join();

    // Nothing comes behind these until they have come.
    for (int i = 0; i < 40; ++i) {
      const Frame frame = make_frame(random_, 100, random_.between(20'000, 400'000));
      sending.spawn(rig_.executor(), [&]() -> awaitable<void> {
        const auto sent = co_await (*client)->send(frame);
        EXPECT_TRUE(sent) << sent.error();
      });
      const auto received = co_await (*server)->receive();
      co_await sending.join();
      CO_ASSERT_TRUE(received);
      EXPECT_TRUE(same_frame(*received, frame));
    }
    (*client)->close();
    (*server)->close();
    co_await passing.join();
  });
}

TEST_F(TlsNodeTest, SpeaksTls13Only) {
  rig_.run([this]() -> awaitable<void> {
    const auto older = make_tls_context(member_id_.seed);
    SSL_CTX_set_min_proto_version(older->native_handle(), TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(older->native_handle(), TLS1_2_VERSION);
    RawTls raw(rig_.executor(), older);
    EXPECT_FALSE(co_await raw.connect(address_));
    co_await expect_serves();
  });
}

// In TLS 1.3 a client is done before the server has judged its certificate: it learns by what it reads.
TEST_F(TlsNodeTest, WantsAnEd25519Certificate) {
  rig_.run([this]() -> awaitable<void> {
    auto plain = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_client);
    RawTls nobody(rig_.executor(), plain);
    if (co_await nobody.connect(address_)) {
      EXPECT_EQ(co_await nobody.drain(), 0U);
    }

    auto other = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_client);
    EVP_PKEY* const key = EVP_EC_gen("P-256");
    X509* const certificate = X509_new();
    X509_set_version(certificate, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    EXPECT_EQ(SSL_CTX_use_certificate(other->native_handle(), certificate), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey(other->native_handle(), key), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    RawTls elliptic(rig_.executor(), other);
    if (co_await elliptic.connect(address_)) {
      EXPECT_EQ(co_await elliptic.drain(), 0U);
    }
    co_await expect_serves();
    EXPECT_EQ(server_->session_count(), 1U);
  });
}

TEST_F(TlsNodeTest, WithinOneMachineNothingIsPaced) {
  const auto congestion_control = [](tcp::socket& socket) {
    std::array<char, 16> name{};
    socklen_t size = name.size();
    EXPECT_EQ(::getsockopt(socket.native_handle(), IPPROTO_TCP, TCP_CONGESTION, name.data(), &size), 0);
    return std::string(name.data());
  };
  rig_.run([&]() -> awaitable<void> {
    tcp::socket socket = co_await connect_raw();
    CO_ASSERT_TRUE(::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) == 0);
    EXPECT_EQ(congestion_control(socket), "cubic");
    const auto connection = std::make_shared<TlsConnection>(std::move(socket), make_tls_context(member_id_.seed));
    connection->prepare();
    EXPECT_EQ(congestion_control(connection->socket), "reno");
    connection->shut();
  });
}

TEST_F(TlsNodeTest, ConnectingToOneWhoNeverAnswersEndsInTime) {
  rig_.run([this]() -> awaitable<void> {
    tcp::acceptor silent(rig_.executor(), tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    const std::string address = "127.0.0.1:" + std::to_string(silent.local_endpoint().port());
    const auto until = rig_.in(50ms);
    const auto channel = co_await member_transport_->connect(address, node_id_.id, until);
    CO_ASSERT_TRUE(!channel);
    EXPECT_EQ(channel.error().code, Error::timed_out) << channel.error();
    EXPECT_GE(rig_.clock().boot_now(), until);
  });
}

TEST_F(TlsNodeTest, FindsTheNodeByName) {
  rig_.run([this]() -> awaitable<void> {
    const auto where = *core::parse_address(address_);
    const std::string by_name = "localhost:" + std::to_string(where.port);
    const auto channel = co_await member_transport_->connect(by_name, node_id_.id, rig_.in(10s));
    EXPECT_TRUE(channel) << channel.error();
    std::string unknown = "no-such-host.invalid:7400";
    const auto nowhere = co_await member_transport_->connect(std::move(unknown), node_id_.id, rig_.in(10s));
    EXPECT_FALSE(nowhere);
  });
}

// Everything at once on several threads, each call checked; made for the sanitizers.
TEST(TlsThreadsTest, ManyThreadsMayUseEverything) {
  Random random;
  EPHFS_TRACE_SEED(random);
  asio::io_context context;
  auto work = asio::make_work_guard(context);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&context] { context.run(); });
  {
    core::SystemClock clock;
    const Identity node_id = make_identity(random);
    const Identity member_id = make_identity(random);
    FakeMembership membership(*core::PoolId::from_bytes(random.bytes(core::PoolId::kSize)));
    membership.add({member_id.id, ""});
    FakePeer node(clock, node_id.seed, 64U << 20U);
    const auto node_transport = make_tls_transport(context.get_executor(), clock, node_id.seed);
    const auto member_transport = make_tls_transport(context.get_executor(), clock, member_id.seed);
    auto listener = node_transport->listen("127.0.0.1:0");
    ASSERT_TRUE(listener) << listener.error();
    PeerServer server(context.get_executor(), clock, std::move(*listener), node, membership);
    server.start();
    core::TaskGroup links;
    RemotePeer peer({context.get_executor(), clock, *member_transport, membership, links},
                    {node_id.id, server.address()}, {}, 2);

    const core::Signer owner = ephfs::testing::make_signer(random);
    std::vector<ephfs::testing::SampleShard> shards;
    for (int i = 0; i < 8; ++i) shards.push_back(ephfs::testing::make_shard(random, 100'000 + i * 7777));
    std::atomic<int> good{0};
    core::TaskGroup tasks;
    for (const auto& shard : shards) {
      tasks.spawn(context.get_executor(), [&]() -> awaitable<void> {
        const auto lease = ephfs::testing::make_lease(shard, node_id.id, owner, clock.now() + 1min);
        core::Envelope envelope = core::sign_lease(lease, owner);
        CallLimits limits{clock.boot_now() + 60s, {}};
        const auto stored = co_await peer.store(std::move(envelope), shard.source, limits);
        EXPECT_TRUE(stored) << stored.error();
        if (!stored) co_return;
        for (std::uint64_t i = 0; i < 30; ++i) {
          FetchRequest request{shard.id, i * 1000, 50'000, i % 2 == 0};
          const auto range = co_await peer.fetch(request, limits);
          EXPECT_TRUE(range) << range.error();
          if (!range) co_return;
          const auto want = shard.source.bytes.view().subspan(range->offset, range->bytes.size());
          if (std::ranges::equal(range->bytes.view(), want)) ++good;
        }
      });
    }
    // Meanwhile some give up early, and the peer is closed under the last of them.
    for (int i = 0; i < 100; ++i) {
      tasks.spawn(context.get_executor(), [&, i]() -> awaitable<void> {
        std::stop_source stop;
        CallLimits limits{clock.boot_now() + std::chrono::milliseconds(i), stop.get_token()};
        if (i % 3 == 0) stop.request_stop();
        (void)co_await peer.status(std::move(limits));
      });
    }
    tasks.wait();
    EXPECT_EQ(good, 240);
    for (int i = 0; i < 20; ++i) {
      tasks.spawn(context.get_executor(), [&]() -> awaitable<void> {
        CallLimits limits{clock.boot_now() + 10s, {}};
        (void)co_await peer.status(std::move(limits));
      });
    }
    peer.close();
    tasks.wait();
    tasks.spawn(context.get_executor(), [&]() -> awaitable<void> { co_await server.stop(); });
    tasks.wait();
    links.wait();
  }
  work.reset();
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace ephfs::net::testing
