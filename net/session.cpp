// SPDX-License-Identifier: Apache-2.0
#include "net/session.hpp"

#include <algorithm>

namespace ephfs::net {

using core::Boottime;
using core::Error;
using core::fail;
using core::Failure;
using core::Nanoseconds;

namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
/// Behind a frame of more, whoever waits for this thread has his turn before the next.
constexpr std::size_t kLargeFrameBytes = 64U << 10U;

// What is left of the time, rounded up, so that the other end never gives up before this one.
std::uint64_t budget_ms(Boottime until, Boottime now, Nanoseconds most) {
  const Nanoseconds left = std::clamp(until - now, Nanoseconds{0}, most);
  return static_cast<std::uint64_t>((left.count() + kMillisecond - 1) / kMillisecond);
}

}  // namespace

Failure as_unreachable(const Failure& reason) {
  return reason.code == Error::unreachable ? reason : fail(Error::unreachable, reason.message());
}

std::shared_ptr<Session> Session::make(asio::any_io_executor executor, core::Clock& clock, core::TaskGroup& tasks,
                                       std::unique_ptr<Channel> channel, Setup setup) {
  return std::make_shared<Session>(MakeOnly{}, std::move(executor), clock, tasks, std::move(channel), std::move(setup));
}

Session::Session(MakeOnly, asio::any_io_executor executor, core::Clock& clock, core::TaskGroup& tasks,
                 std::unique_ptr<Channel> channel, Setup setup)
    : executor_(std::move(executor)),
      clock_(clock),
      tasks_(tasks),
      channel_(std::move(channel)),
      setup_(std::move(setup)),
      peer_id_(channel_->peer_id()),
      peer_address_(channel_->peer_address()),
      calls_(setup_.limits.calls_max, setup_.limits.calls_waiting_max),
      send_bytes_(setup_.limits.send_bytes_max, setup_.limits.calls_max + setup_.limits.requests_max),
      requests_(setup_.limits.requests_max, 1),
      request_bytes_(setup_.limits.request_bytes_max, 1),
      heard_ns_(clock.boot_now().ns) {
  EPHFS_CHECK(setup_.limits.send_bytes_max >= kHeaderBytesMax + kPayloadBytesMax, "one frame can be queued");
  EPHFS_CHECK(setup_.limits.request_bytes_max >= kPayloadBytesMax, "one payload can be served");
}

awaitable<Result<Hello>> Session::open(Boottime until) {
  const auto self = shared_from_this();
  Message hello = pack_hello(setup_.hello);
  Outgoing first;
  first.frame.header = pack_packet({MessageKind::hello, 0, 0, std::move(hello.body)});
  first.frame.payload = std::move(hello.payload);
  outbox_.post(std::move(first));
  tasks_.spawn(channel_->executor(), [self] { return self->write_frames(); });
  tasks_.spawn(channel_->executor(), [self] { return self->read_frames(); });
  tasks_.spawn(executor_, [self] { return self->watch_silence(); });

  auto theirs = co_await greeting_.receive_until(clock_, until);
  if (!theirs) {
    Failure late = fail(Error::timed_out, "no hello from " + peer_address_);
    close(late);
    co_return late;
  }
  co_return std::move(*theirs);
}

awaitable<Result<Message>> Session::call(Message request, CallLimits limits) {
  const auto self = shared_from_this();
  if (limits.stop.stop_requested()) co_return fail(Error::cancelled);
  if (clock_.boot_now() >= limits.until) co_return fail(Error::timed_out, "no time left to call " + peer_address_);
  EPHFS_CO_TRY(const auto place, co_await calls_.enter(1, clock_, limits));

  const Answer answer;
  const std::uint64_t id = add_call(answer);
  if (id == 0) co_return ended_failure();
  const std::uint64_t budget = budget_ms(limits.until, clock_.boot_now(), setup_.limits.budget_max);
  Outgoing out;
  out.call = id;
  out.frame.header = pack_packet({request.kind, id, budget, std::move(request.body)});
  out.frame.payload = std::move(request.payload);
  auto bytes = co_await send_bytes_.enter(out.frame.header.size() + out.frame.payload.size(), clock_, limits);
  if (!bytes) {
    forget_call(id);
    co_return std::move(bytes).error();
  }
  out.bytes = *std::move(bytes);
  outbox_.post(std::move(out));

  const std::stop_callback on_stop(limits.stop, [answer] { answer.post(fail(Error::cancelled)); });
  auto letter = co_await answer.receive_until(clock_, limits.until);
  if (forget_call(id)) send_control(MessageKind::cancel, id);
  if (!letter) co_return fail(Error::timed_out, "no answer from " + peer_address_);
  co_return std::move(*letter);
}

std::uint64_t Session::add_call(const Answer& answer) {
  const std::lock_guard lock(mutex_);
  if (closed_ || finishing_) return 0;
  const std::uint64_t id = next_call_++;
  waiting_.emplace(id, answer);
  return id;
}

bool Session::forget_call(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  return waiting_.erase(id) > 0;
}

bool Session::is_waited_for(std::uint64_t id) const {
  const std::lock_guard lock(mutex_);
  return waiting_.contains(id);
}

void Session::deliver(std::uint64_t id, Result<Message> answer) {
  std::optional<Answer> waiter;
  {
    const std::lock_guard lock(mutex_);
    const auto found = waiting_.find(id);
    if (found == waiting_.end()) return;  // the answer to a call that was given up
    waiter = found->second;
    waiting_.erase(found);
  }
  waiter->post(std::move(answer));
}

awaitable<void> Session::write_frames() {
  for (;;) {
    Outgoing next = co_await outbox_.receive();
    if (next.farewell) break;
    if (next.call != 0 && !is_waited_for(next.call)) continue;
    const bool is_large = next.frame.payload.size() > kLargeFrameBytes;
    const auto sent = co_await channel_->send(std::move(next.frame));
    if (!sent) {
      close(sent.error());
      co_return;
    }
    if (is_large) co_await core::yield();
  }
  close(ended_failure());
}

// Pings and cancels are dropped when the queue is full: whoever does not read our frames would not read these.
void Session::send_control(MessageKind kind, std::uint64_t id) {
  Outgoing out;
  out.frame.header = pack_packet({kind, id, 0, {}});
  auto bytes = send_bytes_.try_enter(out.frame.header.size());
  if (!bytes) return;
  out.bytes = std::move(*bytes);
  outbox_.post(std::move(out));
}

awaitable<void> Session::read_frames() {
  bool greeted = false;
  for (;;) {
    auto frame = co_await channel_->receive();
    if (!frame) {
      close(std::move(frame).error());
      co_return;
    }
    heard_ns_ = clock_.boot_now().ns;
    const bool is_large = frame->payload.size() > kLargeFrameBytes;
    auto packet = unpack_packet(frame->header);
    Result<> taken;
    if (!packet) {
      taken = packet.error();
    } else if (!greeted) {
      taken = take_hello(std::move(*packet), std::move(frame->payload));
      greeted = true;
    } else {
      taken = co_await take(std::move(*packet), std::move(frame->payload));
    }
    if (!taken) {
      finish(std::move(taken).error());
      co_return;
    }
    if (is_large) co_await core::yield();
  }
}

Result<> Session::take_hello(Packet packet, core::SharedBytes payload) {
  if (packet.kind != MessageKind::hello) return fail(Error::protocol, peer_address_ + " does not begin with a hello");
  auto theirs = unpack_hello({packet.kind, std::move(packet.body), std::move(payload)}, setup_.hello.version);
  if (!theirs) return fail(theirs.error().code, peer_address_ + ": " + theirs.error().detail);
  if (setup_.greet) EPHFS_TRY_VOID(setup_.greet(*theirs));
  greeting_.post(std::move(theirs));
  return {};
}

awaitable<Result<>> Session::take(Packet packet, core::SharedBytes payload) {
  switch (packet.kind) {
    case MessageKind::ping:
      send_control(MessageKind::pong, 0);
      co_return Result<>();
    case MessageKind::pong:
      co_return Result<>();
    case MessageKind::cancel:
      take_cancel(packet.id);
      co_return Result<>();
    case MessageKind::reply: {
      Message answer{packet.kind, std::move(packet.body), std::move(payload)};
      deliver(packet.id, std::move(answer));
      co_return Result<>();
    }
    case MessageKind::failure: {
      Failure failure = unpack_failure(packet.body);
      failure.detail = peer_address_ + ": " + failure.detail;
      deliver(packet.id, std::move(failure));
      co_return Result<>();
    }
    default:
      break;
  }
  if (packet.kind < kFirstRequest) {
    co_return fail(Error::protocol, peer_address_ + " sent a frame of a kind that has no place here");
  }
  co_return co_await take_request(std::move(packet), std::move(payload));
}

awaitable<Result<>> Session::take_request(Packet packet, core::SharedBytes payload) {
  auto served = std::make_shared<Served>();
  served->id = packet.id;
  served->request = {packet.kind, std::move(packet.body), std::move(payload)};
  const auto budget = static_cast<std::int64_t>(std::min<std::uint64_t>(
      packet.budget_ms, static_cast<std::uint64_t>(setup_.limits.budget_max / core::Milliseconds{1})));
  served->until = clock_.boot_now() + core::Milliseconds(budget);

  // Here reading waits until there is room again.
  EPHFS_CO_TRY(served->bytes, co_await request_bytes_.enter(served->request.payload.size()));
  EPHFS_CO_TRY(served->place, co_await requests_.enter(1));
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || finishing_) co_return reason_;
    if (!serving_.emplace(served->id, served->stop).second) {
      co_return fail(Error::protocol, peer_address_ + " uses one id for two requests at once");
    }
  }
  const auto self = shared_from_this();
  tasks_.spawn(executor_, [self, served] { return self->serve(served); });
  co_return Result<>();
}

awaitable<void> Session::serve(std::shared_ptr<Served> served) {
  Result<Message> reply = fail(Error::cancelled);
  if (!served->stop.stop_requested()) {
    CallLimits limits{served->until, served->stop.get_token()};
    reply = co_await setup_.handler(std::move(served->request), std::move(limits));
  }
  {
    const std::lock_guard lock(mutex_);
    serving_.erase(served->id);
  }
  served->request = {};
  served->bytes.reset();
  if (served->stop.stop_requested()) co_return;

  Outgoing out;
  const bool last = reply && reply->last;
  if (reply) {
    out.frame.header = pack_packet({MessageKind::reply, served->id, 0, std::move(reply->body)});
    out.frame.payload = std::move(reply->payload);
  } else {
    out.frame.header = pack_packet({MessageKind::failure, served->id, 0, pack_failure(reply.error())});
  }
  auto bytes = co_await send_bytes_.enter(out.frame.header.size() + out.frame.payload.size());
  if (!bytes) co_return;
  out.bytes = *std::move(bytes);
  outbox_.post(std::move(out));
  if (last) finish(fail(Error::unreachable, "the session has done what it was for"));
}

void Session::take_cancel(std::uint64_t id) {
  std::optional<std::stop_source> stop;
  {
    const std::lock_guard lock(mutex_);
    const auto found = serving_.find(id);
    if (found == serving_.end()) return;
    stop = found->second;
  }
  stop->request_stop();
}

awaitable<void> Session::watch_silence() {
  const SessionLimits& limits = setup_.limits;
  for (;;) {
    const Boottime heard{heard_ns_.load()};
    if (co_await silence_stop_.receive_until(clock_, heard + limits.idle)) co_return;
    if (Boottime{heard_ns_.load()} > heard) continue;
    send_control(MessageKind::ping, 0);
    if (co_await silence_stop_.receive_until(clock_, clock_.boot_now() + limits.ping_answer)) co_return;
    if (Boottime{heard_ns_.load()} > heard) continue;
    close(fail(Error::unreachable, peer_address_ + " has fallen silent"));
    co_return;
  }
}

// Ends the session when what is queued has been sent, or after a short while.
void Session::finish(Failure reason) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || finishing_) return;
    finishing_ = true;
    reason_ = reason;
    farewell_timer_ =
        clock_.call_at(executor_, clock_.boot_now() + setup_.limits.farewell, [weak = weak_from_this(), reason] {
          if (const auto self = weak.lock()) self->close(reason);
        });
  }
  greeting_.post(reason);
  Outgoing farewell;
  farewell.farewell = true;
  outbox_.post(std::move(farewell));
}

void Session::close(Failure reason) {
  std::unordered_map<std::uint64_t, Answer> waiting;
  std::unordered_map<std::uint64_t, std::stop_source> serving;
  std::unique_ptr<core::Timer> timer;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    if (!finishing_) reason_ = reason;
    reason = reason_;
    waiting.swap(waiting_);
    serving.swap(serving_);
    timer = std::move(farewell_timer_);
  }
  channel_->close();
  calls_.close();
  send_bytes_.close();
  requests_.close();
  request_bytes_.close();
  Outgoing farewell;
  farewell.farewell = true;
  outbox_.post(std::move(farewell));
  silence_stop_.post(0);
  greeting_.post(reason);
  ended_.post(reason);
  for (auto& [id, answer] : waiting) answer.post(as_unreachable(reason));
  for (auto& [id, stop] : serving) stop.request_stop();
}

bool Session::is_open() const {
  const std::lock_guard lock(mutex_);
  return !closed_ && !finishing_;
}

awaitable<Failure> Session::ended() {
  const auto self = shared_from_this();
  co_return co_await ended_.receive();
}

Failure Session::ended_failure() const {
  const std::lock_guard lock(mutex_);
  return as_unreachable(reason_);
}

}  // namespace ephfs::net
