// SPDX-License-Identifier: Apache-2.0
#include "node/clock_keeper.hpp"

namespace ephfs::node {
namespace {

using namespace std::chrono_literals;

constexpr core::Nanoseconds kLookEvery = 1s;
constexpr core::Nanoseconds kKernelEvery = 60s;
constexpr core::Nanoseconds kPeersEvery = 30s;
constexpr core::Nanoseconds kPeersPatience = 5s;

}  // namespace

ClockKeeper::ClockKeeper(core::GuardedClock& clock, const net::PeerDirectory& peers,
                         core::asio::any_io_executor executor, KernelTime kernel)
    : clock_(clock), peers_(peers), executor_(std::move(executor)), kernel_(std::move(kernel)) {}

void ClockKeeper::start() {
  tasks_.spawn(executor_, [this] { return run(); });
}

awaitable<void> ClockKeeper::stop() {
  stopping_.request_stop();
  wake_.post('s');
  co_await tasks_.join();
}

awaitable<void> ClockKeeper::run() {
  core::Boottime kernel_due = clock_.boot_now();
  core::Boottime peers_due = kernel_due;
  while (!stopping_.stop_requested()) {
    clock_.look();
    const core::Boottime now = clock_.boot_now();
    if (clock_.is_held() || now >= kernel_due) {
      (void)clock_.confirm_by_kernel(kernel_());
      kernel_due = now + kKernelEvery;
    }
    if (clock_.is_held() && now >= peers_due) {
      co_await ask_peers();
      peers_due = clock_.boot_now() + kPeersEvery;
    }
    (void)co_await wake_.receive_until(clock_, clock_.boot_now() + kLookEvery);
  }
}

awaitable<void> ClockKeeper::ask_peers() {
  auto peers = peers_.all();
  std::erase_if(peers, [](const auto& peer) { return peer->is_local(); });
  const net::CallLimits limits{clock_.boot_now() + kPeersPatience, stopping_.get_token()};
  const core::Mailbox<std::optional<core::Instant>> answers;
  for (const auto& peer : peers) {
    std::function<awaitable<void>()> ask = [peer, limits, answers]() -> awaitable<void> {
      const auto status = co_await peer->status(limits);
      answers.post(status ? std::optional(status->now) : std::nullopt);
    };
    tasks_.spawn(executor_, std::move(ask));
  }
  std::vector<core::Instant> said;
  for (std::size_t i = 0; i < peers.size(); ++i) {
    if (const auto answer = co_await answers.receive()) said.push_back(*answer);
  }
  (void)clock_.confirm_by_peers(said, peers.size());
}

}  // namespace ephfs::node
