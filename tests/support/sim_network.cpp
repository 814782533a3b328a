// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sim_network.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "tests/support/seeded.hpp"

namespace ephfs::testing {

using core::awaitable;
using core::Boottime;
using core::Error;
using core::fail;
using core::Nanoseconds;
using core::Result;
using net::Channel;
using net::Frame;

namespace {

constexpr std::size_t kAcceptQueueMax = 64;
constexpr Nanoseconds kConnectAgain = std::chrono::seconds(1);
constexpr unsigned kFirstPort = 40001;

std::size_t size_of(const Frame& frame) {
  return frame.header.size() + frame.payload.size();
}

std::string host_of(const std::string& address) {
  return address.substr(0, address.rfind(':'));
}

}  // namespace

// One channel: two ends, and for each what is on its way there.
struct SimNetwork::Wire {
  struct Item {
    Boottime arrival;
    Result<Frame> content;  // a failure is the end of the channel
  };
  struct End {
    std::string host;
    core::NodeId id;
    core::PublicKey key;
    std::string address;
    bool closed = false;                 // by its own holder, or broken
    bool told = false;                   // the news that the other end is gone has come
    std::deque<Item> coming;             // to this end, in order
    std::unique_ptr<core::Timer> timer;  // for the first of them
    Boottime last_arrival;
    Boottime line_free;      // when the line to this end has sent what it was given
    std::size_t unread = 0;  // bytes sent to this end and not received by it
    core::Mailbox<Result<Frame>> inbox;
    std::optional<core::Failure> ended;  // what receive() has met and will meet again
    core::Mailbox<char> room;            // for the sender to this end
    bool sender_waits = false;
  };
  std::uint64_t number = 0;
  std::array<End, 2> ends;  // 0 connected, 1 accepted
};

struct SimNetwork::State : std::enable_shared_from_this<State> {
  struct Port {
    std::string host;
    core::NodeId id;
    core::PublicKey key;
    std::size_t queued = 0;
    bool closed = false;
    core::Mailbox<Result<std::unique_ptr<Channel>>> incoming;
  };
  using Pair = std::pair<std::string, std::string>;

  State(core::asio::any_io_executor with, core::Clock& at, std::uint64_t seed, SimNetworkOptions set)
      : executor(std::move(with)), clock(at), options(set), random(seed) {}

  const core::asio::any_io_executor executor;
  core::Clock& clock;
  const SimNetworkOptions options;

  std::mutex mutex;  // guards all below, and the wires
  Random random;
  bool over = false;
  std::set<Pair> partitions;
  std::set<std::string> crashed;
  std::map<std::string, std::shared_ptr<Port>> ports;
  std::map<std::uint64_t, std::weak_ptr<Wire>> wires;
  std::uint64_t next_wire = 1;
  unsigned next_port = kFirstPort;
  std::uint64_t frame_count = 0;
  std::uint64_t break_at = 0;
  std::uint64_t trace_hash = 14695981039346656037U;  // FNV-1a's offset basis

  // All functions below: with the mutex held.

  static Pair ordered(const std::string& a, const std::string& b) { return a < b ? Pair{a, b} : Pair{b, a}; }
  bool parted(const std::string& a, const std::string& b) const { return partitions.contains(ordered(a, b)); }

  void note(std::uint64_t value) {
    for (unsigned i = 0; i < 8; ++i) {
      trace_hash ^= (value >> (8 * i)) & 0xffU;
      trace_hash *= 1099511628211U;
    }
  }
  void note(char what, std::uint64_t a, std::uint64_t b) {
    note(static_cast<std::uint64_t>(clock.boot_now().ns));
    note(static_cast<unsigned char>(what));
    note(a);
    note(b);
  }

  Nanoseconds one_way() {
    return options.delay +
           Nanoseconds(static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(options.jitter.count()) + 1)));
  }

  /// Puts something on its way to an end; gives the time when the line has taken it.
  Boottime carry(const std::shared_ptr<Wire>& wire, std::size_t to, Result<Frame> content) {
    Wire::End& end = wire->ends[to];
    const Boottime now = clock.boot_now();
    Boottime sent = now;
    if (content && options.bytes_per_second > 0) {
      const auto span = static_cast<std::int64_t>(size_of(*content) * 1'000'000'000U / options.bytes_per_second);
      sent = end.line_free = std::max(now, end.line_free) + Nanoseconds(span);
    }
    end.last_arrival = std::max(end.last_arrival, sent + one_way());
    end.coming.push_back({end.last_arrival, std::move(content)});
    if (end.coming.size() == 1) pump(wire, to);
    return sent;
  }

  /// Hands over what has arrived and waits for the next.
  void pump(const std::shared_ptr<Wire>& wire, std::size_t to) {
    Wire::End& end = wire->ends[to];
    while (!end.coming.empty() && !parted(wire->ends[0].host, wire->ends[1].host)) {
      if (end.coming.front().arrival > clock.boot_now()) {
        end.timer = clock.call_at(executor, end.coming.front().arrival,
                                  [weak = weak_from_this(), weak_wire = std::weak_ptr(wire), to] {
                                    const auto state = weak.lock();
                                    const auto still = weak_wire.lock();
                                    if (!state || !still) return;
                                    const std::lock_guard lock(state->mutex);
                                    state->pump(still, to);
                                  });
        return;
      }
      auto content = std::move(end.coming.front().content);
      end.coming.pop_front();
      note(content ? 'r' : 'e', wire->number * 2 + to, content ? size_of(*content) : 0);
      if (!content) {
        end.told = true;
        wire->ends[1 - to].room.post(0);
      }
      if (!end.closed) end.inbox.post(std::move(content));
    }
  }

  /// One end is over at once; what it sent before still arrives.
  void end_locally(Wire& wire, std::size_t which) {
    Wire::End& end = wire.ends[which];
    if (end.closed) return;
    end.closed = true;
    end.inbox.post(fail(Error::unreachable, "the channel is closed"));
    wire.ends[1 - which].room.post(0);
  }
  void close_end(const std::shared_ptr<Wire>& wire, std::size_t which) {
    if (wire->ends[which].closed) return;
    note('c', wire->number * 2 + which, 0);
    end_locally(*wire, which);
    (void)carry(wire, 1 - which, fail(Error::unreachable, "the other end has closed the channel"));
  }

  void close_port(const std::string& address) {
    const auto found = ports.find(address);
    if (found == ports.end()) return;
    found->second->closed = true;
    found->second->incoming.post(fail(Error::unreachable, "the listener is closed"));
    ports.erase(found);
  }

  std::vector<std::shared_ptr<Wire>> open_wires() {
    std::vector<std::shared_ptr<Wire>> open;
    for (const auto& [number, weak] : wires) {
      if (auto wire = weak.lock()) open.push_back(std::move(wire));
    }
    return open;
  }
};

class SimNetwork::SimChannel final : public Channel {
 public:
  SimChannel(std::shared_ptr<State> state, std::shared_ptr<Wire> wire, std::size_t self)
      : state_(std::move(state)), wire_(std::move(wire)), self_(self) {}
  ~SimChannel() override { SimChannel::close(); }
  SimChannel(const SimChannel&) = delete;
  SimChannel& operator=(const SimChannel&) = delete;

  [[nodiscard]] core::NodeId peer_id() const override { return wire_->ends[1 - self_].id; }
  [[nodiscard]] core::PublicKey peer_key() const override { return wire_->ends[1 - self_].key; }
  [[nodiscard]] std::string peer_address() const override { return wire_->ends[1 - self_].address; }
  [[nodiscard]] core::asio::any_io_executor executor() const override { return state_->executor; }

  [[nodiscard]] awaitable<Result<>> send(Frame frame) override {
    return send_over(state_, wire_, self_, std::move(frame));
  }
  [[nodiscard]] awaitable<Result<Frame>> receive() override { return receive_over(state_, wire_, self_); }

  void close() override {
    const std::lock_guard lock(state_->mutex);
    state_->close_end(wire_, self_);
  }

 private:
  static awaitable<Result<>> send_over(std::shared_ptr<State> state, std::shared_ptr<Wire> wire, std::size_t self,
                                       Frame frame) {
    if (frame.header.size() > net::kHeaderBytesMax || frame.payload.size() > net::kPayloadBytesMax) {
      co_return fail(Error::invalid_argument, "a frame past its bounds");
    }
    const auto broken = fail(Error::unreachable, "the channel is closed");
    Wire::End& there = wire->ends[1 - self];
    for (;;) {
      {
        const std::lock_guard lock(state->mutex);
        if (wire->ends[self].closed || wire->ends[self].told) co_return broken;
        if (there.unread <= state->options.window) break;
        there.sender_waits = true;
      }
      (void)co_await there.room.receive();
    }
    Boottime sent;
    {
      const std::lock_guard lock(state->mutex);
      ++state->frame_count;
      state->note('s', wire->number * 2 + self, size_of(frame));
      if (state->frame_count == state->break_at) {
        state->end_locally(*wire, self);
        (void)state->carry(wire, 1 - self, fail(Error::unreachable, "the channel broke"));
        co_return broken;
      }
      there.unread += size_of(frame);
      sent = state->carry(wire, 1 - self, std::move(frame));
    }
    if (sent > state->clock.boot_now()) co_await core::sleep_until(state->clock, sent);
    co_return Result<>();
  }

  static awaitable<Result<Frame>> receive_over(std::shared_ptr<State> state, std::shared_ptr<Wire> wire,
                                               std::size_t self) {
    Wire::End& here = wire->ends[self];
    const auto closed = fail(Error::unreachable, "the channel is closed");
    {
      const std::lock_guard lock(state->mutex);
      if (here.ended) co_return *here.ended;
      if (here.closed) co_return closed;
    }
    auto frame = co_await here.inbox.receive();
    const std::lock_guard lock(state->mutex);
    if (here.closed) co_return closed;
    if (!frame) {
      here.ended = frame.error();
      co_return frame;
    }
    here.unread -= size_of(*frame);
    if (std::exchange(here.sender_waits, false)) here.room.post(0);
    co_return frame;
  }

  const std::shared_ptr<State> state_;
  const std::shared_ptr<Wire> wire_;
  const std::size_t self_;
};

class SimNetwork::SimListener final : public net::Listener {
 public:
  SimListener(std::shared_ptr<State> state, std::shared_ptr<State::Port> port, std::string address)
      : state_(std::move(state)), port_(std::move(port)), address_(std::move(address)) {}
  ~SimListener() override { SimListener::close(); }
  SimListener(const SimListener&) = delete;
  SimListener& operator=(const SimListener&) = delete;

  [[nodiscard]] std::string address() const override { return address_; }

  [[nodiscard]] awaitable<Result<std::unique_ptr<Channel>>> accept() override { return accept_at(state_, port_); }

  void close() override {
    const std::lock_guard lock(state_->mutex);
    // After a crash somebody else may listen there.
    const auto found = state_->ports.find(address_);
    if (found != state_->ports.end() && found->second == port_) state_->close_port(address_);
  }

 private:
  static awaitable<Result<std::unique_ptr<Channel>>> accept_at(std::shared_ptr<State> state,
                                                               std::shared_ptr<State::Port> port) {
    const auto closed = fail(Error::unreachable, "the listener is closed");
    {
      const std::lock_guard lock(state->mutex);
      if (port->closed) co_return closed;
    }
    auto channel = co_await port->incoming.receive();
    const std::lock_guard lock(state->mutex);
    if (port->closed) co_return closed;
    --port->queued;
    co_return channel;
  }

  const std::shared_ptr<State> state_;
  const std::shared_ptr<State::Port> port_;
  const std::string address_;
};

class SimNetwork::SimTransport final : public net::Transport {
 public:
  SimTransport(std::shared_ptr<State> state, const core::NodeId& id, const core::PublicKey& key, std::string host)
      : state_(std::move(state)), self_{id, key, std::move(host)} {}

  [[nodiscard]] awaitable<Result<std::unique_ptr<Channel>>> connect(std::string address, core::NodeId expected,
                                                                    Boottime until) override {
    return connect_from(state_, self_, std::move(address), expected, until);
  }

  [[nodiscard]] Result<std::unique_ptr<net::Listener>> listen(const std::string& address) override {
    const std::lock_guard lock(state_->mutex);
    if (state_->over || state_->crashed.contains(self_.host)) return fail(Error::unreachable, self_.host + " is down");
    const auto colon = address.rfind(':');
    if (colon == std::string::npos) return fail(Error::invalid_argument, "no port in " + address);
    std::string port = address.substr(colon + 1);
    if (port == "0") port = std::to_string(state_->next_port++);
    std::string listening = self_.host + ":" + port;
    if (state_->ports.contains(listening)) return fail(Error::busy, listening + " is taken");
    auto opened = std::make_shared<State::Port>();
    opened->host = self_.host;
    opened->id = self_.id;
    opened->key = self_.key;
    state_->ports.emplace(listening, opened);
    return std::unique_ptr<net::Listener>(
        std::make_unique<SimListener>(state_, std::move(opened), std::move(listening)));
  }

 private:
  struct Self {
    core::NodeId id;
    core::PublicKey key;
    std::string host;
  };
  using Connected = Result<std::unique_ptr<Channel>>;

  static awaitable<Connected> connect_from(std::shared_ptr<State> state, Self self, std::string address,
                                           core::NodeId expected, Boottime until) {
    const std::string target = host_of(address);
    for (;;) {
      bool silent = false;
      Boottime answer;
      {
        const std::lock_guard lock(state->mutex);
        silent = state->parted(self.host, target);
        const Nanoseconds wait = silent ? kConnectAgain : state->one_way() + state->one_way() + state->one_way();
        answer = state->clock.boot_now() + wait;
      }
      co_await core::sleep_until(state->clock, std::min(answer, until));
      if (answer > until || (silent && state->clock.boot_now() >= until)) {
        co_return fail(Error::timed_out, "connecting to " + address);
      }
      if (silent) continue;
      const std::lock_guard lock(state->mutex);
      if (state->parted(self.host, target)) continue;
      co_return meet(state, self, address, expected);
    }
  }

  // With the mutex held.
  static Connected meet(const std::shared_ptr<State>& state, const Self& self, const std::string& address,
                        const core::NodeId& expected) {
    const auto found = state->ports.find(address);
    if (state->over || state->crashed.contains(self.host) || found == state->ports.end() ||
        found->second->queued >= kAcceptQueueMax) {
      state->note('x', 0, 0);
      return fail(Error::unreachable, "connecting to " + address + ": refused");
    }
    const auto port = found->second;
    if (port->id != expected) {
      return fail(Error::not_permitted, address + " is node " + port->id.hex() + ", not " + expected.hex());
    }
    auto wire = std::make_shared<Wire>();
    wire->number = state->next_wire++;
    describe(wire->ends[0], self.host, self.id, self.key, self.host + ":" + std::to_string(50000 + wire->number));
    describe(wire->ends[1], port->host, port->id, port->key, address);
    std::erase_if(state->wires, [](const auto& entry) { return entry.second.expired(); });
    state->wires.emplace(wire->number, wire);
    state->note('o', wire->number, 0);
    ++port->queued;
    port->incoming.post(std::unique_ptr<Channel>(std::make_unique<SimChannel>(state, wire, 1)));
    return std::unique_ptr<Channel>(std::make_unique<SimChannel>(state, std::move(wire), 0));
  }

  static void describe(Wire::End& end, const std::string& host, const core::NodeId& id, const core::PublicKey& key,
                       std::string address) {
    end.host = host;
    end.id = id;
    end.key = key;
    end.address = std::move(address);
  }

  const std::shared_ptr<State> state_;
  const Self self_;
};

SimNetwork::SimNetwork(core::asio::any_io_executor executor, core::Clock& clock, std::uint64_t seed,
                       SimNetworkOptions options)
    : state_(std::make_shared<State>(std::move(executor), clock, seed, options)) {}

SimNetwork::~SimNetwork() {
  const auto wires = [&] {
    const std::lock_guard lock(state_->mutex);
    state_->over = true;
    return state_->open_wires();
  }();
  const std::lock_guard lock(state_->mutex);
  for (const auto& wire : wires) {
    state_->end_locally(*wire, 0);
    state_->end_locally(*wire, 1);
    for (auto& end : wire->ends) end.timer.reset();
  }
  while (!state_->ports.empty()) state_->close_port(state_->ports.begin()->first);
}

std::unique_ptr<net::Transport> SimNetwork::transport_for(const core::NodeId& id, const core::PublicKey& key,
                                                          std::string host) {
  return std::make_unique<SimTransport>(state_, id, key, std::move(host));
}

void SimNetwork::partition(const std::string& a, const std::string& b) {
  const std::lock_guard lock(state_->mutex);
  state_->note('p', 0, 0);
  state_->partitions.insert(State::ordered(a, b));
}

void SimNetwork::heal(const std::string& a, const std::string& b) {
  const auto wires = [&] {
    const std::lock_guard lock(state_->mutex);
    return state_->open_wires();
  }();
  const std::lock_guard lock(state_->mutex);
  if (state_->partitions.erase(State::ordered(a, b)) == 0) return;
  state_->note('h', 0, 0);
  for (const auto& wire : wires) {
    if (State::ordered(wire->ends[0].host, wire->ends[1].host) != State::ordered(a, b)) continue;
    for (std::size_t to = 0; to < 2; ++to) {
      // Sent again: what was held comes a delay from now, in the old order.
      Wire::End& end = wire->ends[to];
      const Boottime again = state_->clock.boot_now() + state_->one_way();
      for (auto& item : end.coming) item.arrival = std::max(item.arrival, again);
      end.last_arrival = std::max(end.last_arrival, again);
      state_->pump(wire, to);
    }
  }
}

void SimNetwork::heal_all() {
  const auto partitions = [&] {
    const std::lock_guard lock(state_->mutex);
    return state_->partitions;
  }();
  for (const auto& [a, b] : partitions) heal(a, b);
}

void SimNetwork::crash(const std::string& host) {
  const auto wires = [&] {
    const std::lock_guard lock(state_->mutex);
    return state_->open_wires();
  }();
  const std::lock_guard lock(state_->mutex);
  state_->note('k', 0, 0);
  state_->crashed.insert(host);
  for (const auto& wire : wires) {
    for (std::size_t which = 0; which < 2; ++which) {
      if (wire->ends[which].host == host) state_->close_end(wire, which);
    }
  }
  std::vector<std::string> addresses;
  for (const auto& [address, port] : state_->ports) {
    if (port->host == host) addresses.push_back(address);
  }
  for (const auto& address : addresses) state_->close_port(address);
}

void SimNetwork::restart(const std::string& host) {
  const std::lock_guard lock(state_->mutex);
  state_->note('u', 0, 0);
  state_->crashed.erase(host);
}

void SimNetwork::break_at_frame(std::uint64_t nth) {
  const std::lock_guard lock(state_->mutex);
  state_->break_at = state_->frame_count + nth;
}

std::uint64_t SimNetwork::frames() const {
  const std::lock_guard lock(state_->mutex);
  return state_->frame_count;
}

std::uint64_t SimNetwork::trace() const {
  const std::lock_guard lock(state_->mutex);
  return state_->trace_hash;
}

}  // namespace ephfs::testing
