// SPDX-License-Identifier: Apache-2.0
// A place where nodes can talk: the real network on loopback with the machine's clock, or the simulated one with a
// virtual clock. Suites that must hold on both are written against it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "net/tls_transport.hpp"
#include "tests/support/sample_shard.hpp"
#include "tests/support/sim_network.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::net::testing {

using namespace std::chrono_literals;
using core::Bytes;
using core::Error;
using core::NodeId;
using ephfs::testing::Random;
using ephfs::testing::SimNetwork;
using ephfs::testing::VirtualClock;

/// Leaves a coroutine, with a failure, when something that the rest needs does not hold.
#define CO_ASSERT_TRUE(condition)                      \
  do {                                                 \
    if (!(condition)) {                                \
      ADD_FAILURE() << #condition << " does not hold"; \
      co_return;                                       \
    }                                                  \
  } while (false)

/// Who a node is.
struct Identity {
  core::SigningSeed seed;
  core::PublicKey key;
  NodeId id;
};

inline Identity make_identity(Random& random) {
  Identity identity;
  identity.seed = core::SigningSeed::copy_of(random.bytes(core::SigningSeed::kSize));
  identity.key = core::Signer(identity.seed).public_key();
  identity.id = core::node_id_of(identity.key);
  return identity;
}

/// What the tests of two nodes on a simulated network share. One that owns transports drops them, then the network, at
/// its end, and lets the clock settle.
class SimulatedNet : public ::testing::Test {
 protected:
  static Error code_of(const auto& result) {
    EXPECT_FALSE(result) << "it succeeded";
    return result ? Error::io : result.error().code;
  }

  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
  core::asio::io_context context_;
  VirtualClock clock_{context_};
  std::unique_ptr<SimNetwork> network_ = std::make_unique<SimNetwork>(context_.get_executor(), clock_, random_.seed());
};

class NetRig {
 public:
  virtual ~NetRig() = default;
  [[nodiscard]] virtual core::Clock& clock() = 0;
  [[nodiscard]] virtual std::unique_ptr<Transport> transport(const Identity& who, const std::string& host) = 0;
  /// Runs `body` to its end.
  virtual void run(std::function<awaitable<void>()> body) = 0;
  /// What a node of that host listens on, with a free port.
  [[nodiscard]] virtual std::string any_address(const std::string& host) const = 0;
  /// An address at which nobody listens.
  [[nodiscard]] virtual std::string dead_address() const = 0;

  [[nodiscard]] core::asio::any_io_executor executor() { return context_.get_executor(); }
  [[nodiscard]] core::Boottime in(core::Nanoseconds span) { return clock().boot_now() + span; }

 protected:
  core::asio::io_context context_;
};

class SimRig final : public NetRig {
 public:
  SimRig() = default;
  ~SimRig() override {
    network_.reset();
    clock_.settle();
  }
  SimRig(const SimRig&) = delete;
  SimRig& operator=(const SimRig&) = delete;

  [[nodiscard]] VirtualClock& clock() override { return clock_; }
  [[nodiscard]] std::unique_ptr<Transport> transport(const Identity& who, const std::string& host) override {
    return network_->transport_for(who.id, who.key, host);
  }
  void run(std::function<awaitable<void>()> body) override { EXPECT_TRUE(clock_.run(body())) << "it did not end"; }
  [[nodiscard]] std::string any_address(const std::string& host) const override { return host + ":0"; }
  [[nodiscard]] std::string dead_address() const override { return "nowhere:1"; }

 private:
  VirtualClock clock_{context_};
  std::unique_ptr<SimNetwork> network_ =
      std::make_unique<SimNetwork>(context_.get_executor(), clock_, ephfs::testing::test_seed());
};

class TlsRig final : public NetRig {
 public:
  explicit TlsRig(LogLine log = {}) : log_(std::move(log)) {}
  ~TlsRig() override {
    // Connections are closed by what they posted last.
    context_.restart();
    context_.poll();
  }
  TlsRig(const TlsRig&) = delete;
  TlsRig& operator=(const TlsRig&) = delete;

  [[nodiscard]] core::Clock& clock() override { return clock_; }
  [[nodiscard]] std::unique_ptr<Transport> transport(const Identity& who, const std::string&) override {
    return make_tls_transport(context_.get_executor(), clock_, who.seed, log_);
  }
  void run(std::function<awaitable<void>()> body) override {
    bool done = false;
    auto task = body();
    core::asio::co_spawn(context_, std::move(task), [&done](const std::exception_ptr& thrown) {
      EXPECT_FALSE(thrown);
      done = true;
    });
    context_.restart();
    while (!done && context_.run_one() > 0) {
    }
    EXPECT_TRUE(done) << "it did not end";
  }
  [[nodiscard]] std::string any_address(const std::string&) const override { return "127.0.0.1:0"; }
  // A port below 1024 that nothing is assigned to.
  [[nodiscard]] std::string dead_address() const override { return "127.0.0.1:4"; }

 private:
  const LogLine log_;
  core::SystemClock clock_;
};

/// The suites' parameter: a name and how to make it.
struct RigKind {
  const char* name;
  std::unique_ptr<NetRig> (*make)();
};
inline void PrintTo(const RigKind& kind, std::ostream* out) {
  *out << kind.name;
}
inline std::string rig_name(const ::testing::TestParamInfo<RigKind>& info) {
  return info.param.name;
}

constexpr RigKind kSimulated{"Simulated", [] { return std::unique_ptr<NetRig>(std::make_unique<SimRig>()); }};
constexpr RigKind kTls{"Tls", [] { return std::unique_ptr<NetRig>(std::make_unique<TlsRig>()); }};

inline Frame make_frame(Random& random, std::size_t header_bytes, std::size_t payload_bytes) {
  Frame frame;
  frame.header = random.bytes(header_bytes);
  if (payload_bytes > 0) frame.payload = core::SharedBytes::copy_of(random.bytes(payload_bytes));
  return frame;
}

inline bool same_frame(const Frame& a, const Frame& b) {
  return a.header == b.header && std::ranges::equal(a.payload.view(), b.payload.view());
}

}  // namespace ephfs::net::testing
