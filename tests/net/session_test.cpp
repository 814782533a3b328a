// SPDX-License-Identifier: Apache-2.0
// Sessions in virtual time on the simulated network: what a second means here is exact.
#include "net/session.hpp"

#include "tests/net/net_rig.hpp"

namespace ephfs::net::testing {
namespace {

constexpr core::Nanoseconds kFar = 30s;

Message make_request(std::string_view text, std::size_t payload_bytes = 0) {
  Message message;
  message.kind = MessageKind::status;
  message.body = core::to_bytes(core::as_bytes(text));
  if (payload_bytes > 0) message.payload = core::SharedBytes(core::Buffer(payload_bytes));
  return message;
}

std::string text_of(const Message& message) {
  return std::string(core::as_text(message.body));
}

// Answers with what it got, after a while; counts.
struct Server {
  explicit Server(core::Clock& its_clock) : clock(its_clock) {}

  awaitable<Result<Message>> handle(Message request, CallLimits limits) {
    ++begun;
    most = std::max(most, ++now);
    last_budget = limits.until - clock.boot_now();
    if (delay > 0ns) {
      const core::Mailbox<char> stopped;
      std::function<void()> stop = [this, stopped] {
        stopped_at = clock.boot_now();
        stopped.post(0);
      };
      const std::stop_callback<std::function<void()>> on_stop(limits.stop, std::move(stop));
      (void)co_await stopped.receive_until(clock, clock.boot_now() + delay);
    }
    --now;
    if (failure) co_return *failure;
    Message reply;
    reply.body = std::move(request.body);
    reply.payload = std::move(request.payload);
    co_return reply;
  }

  core::Clock& clock;
  core::Nanoseconds delay{0};
  std::optional<core::Failure> failure;
  std::size_t begun = 0;
  std::size_t now = 0;
  std::size_t most = 0;
  core::Nanoseconds last_budget{0};
  core::Boottime stopped_at;
};

class SessionTest : public SimulatedNet {
 protected:
  using Outcome = Result<Message>;

  void TearDown() override {
    if (left_) left_->close();
    if (right_) right_->close();
    clock_.run(tasks_.join());
    left_.reset();
    right_.reset();
    left_transport_.reset();
    right_transport_.reset();
    listener_.reset();
    network_.reset();
    clock_.settle();
  }

  Session::Setup setup(Server& server) {
    Session::Setup made;
    made.hello.pool = pool_;
    made.hello.agent = "test";
    made.handler = [&server](Message request, CallLimits limits) {
      return server.handle(std::move(request), std::move(limits));
    };
    return made;
  }

  // Two ends of a channel; the left one has connected.
  std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> connect() {
    listener_ = *right_transport_->listen("right:0");
    auto left = clock_.run(left_transport_->connect(listener_->address(), right_id_.id, clock_.boot_now() + kFar));
    auto right = clock_.run(listener_->accept());
    EXPECT_TRUE(left && *left && right && *right);
    return {std::move(**left), std::move(**right)};
  }

  void make_sessions(Session::Setup left_setup, Session::Setup right_setup) {
    auto [left, right] = connect();
    const auto executor = context_.get_executor();
    left_ = Session::make(executor, clock_, tasks_, std::move(left), std::move(left_setup));
    right_ = Session::make(executor, clock_, tasks_, std::move(right), std::move(right_setup));
  }

  // Opens both at once; what each end says of it.
  std::pair<Result<Hello>, Result<Hello>> open_both() {
    std::optional<Result<Hello>> left;
    std::optional<Result<Hello>> right;
    const auto until = clock_.boot_now() + kFar;
    tasks_.spawn(context_.get_executor(), [&]() -> awaitable<void> { left.emplace(co_await left_->open(until)); });
    tasks_.spawn(context_.get_executor(), [&]() -> awaitable<void> { right.emplace(co_await right_->open(until)); });
    EXPECT_TRUE(clock_.run_while_not([&] { return left && right; }));
    return {std::move(*left), std::move(*right)};
  }

  void open(SessionLimits left_limits = {}, SessionLimits right_limits = {}) {
    auto left_setup = setup(left_server_);
    auto right_setup = setup(right_server_);
    left_setup.limits = left_limits;
    right_setup.limits = right_limits;
    make_sessions(std::move(left_setup), std::move(right_setup));
    const auto [left, right] = open_both();
    ASSERT_TRUE(left) << left.error();
    ASSERT_TRUE(right) << right.error();
  }

  CallLimits limits(core::Nanoseconds span = kFar, std::stop_token stop = {}) {
    return {clock_.boot_now() + span, std::move(stop)};
  }
  Outcome call(const std::shared_ptr<Session>& session, std::string_view text, core::Nanoseconds span = kFar) {
    return *clock_.run(session->call(make_request(text), limits(span)));
  }
  // Starts a call whose outcome, and when it came, are put where the caller looks.
  struct Pending {
    std::optional<Outcome> outcome;
    core::Boottime at;
  };
  std::shared_ptr<Pending> start_call(Message request, CallLimits call_limits) {
    auto pending = std::make_shared<Pending>();
    auto wanted = std::make_shared<Message>(std::move(request));
    tasks_.spawn(context_.get_executor(), [this, pending, wanted, call_limits]() -> awaitable<void> {
      pending->outcome.emplace(co_await left_->call(*wanted, call_limits));
      pending->at = clock_.boot_now();
    });
    return pending;
  }
  Identity left_id_ = make_identity(random_);
  Identity right_id_ = make_identity(random_);
  core::PoolId pool_ = *core::PoolId::from_bytes(random_.bytes(core::PoolId::kSize));
  std::unique_ptr<Transport> left_transport_ = network_->transport_for(left_id_.id, left_id_.key, "left");
  std::unique_ptr<Transport> right_transport_ = network_->transport_for(right_id_.id, right_id_.key, "right");
  std::unique_ptr<Listener> listener_;
  core::TaskGroup tasks_;
  Server left_server_{clock_};
  Server right_server_{clock_};
  std::shared_ptr<Session> left_;
  std::shared_ptr<Session> right_;
};

TEST_F(SessionTest, ExchangesHellosWithMembers) {
  auto left_setup = setup(left_server_);
  left_setup.hello.members = {{left_id_.id, "left:1"}, {right_id_.id, ""}};
  auto right_setup = setup(right_server_);
  make_sessions(std::move(left_setup), std::move(right_setup));
  const auto [left, right] = open_both();
  ASSERT_TRUE(left && right);
  EXPECT_EQ(right->members, (std::vector<Member>{{left_id_.id, "left:1"}, {right_id_.id, ""}}));
  EXPECT_EQ(right->pool, pool_);
  EXPECT_EQ(right->agent, "test");
  EXPECT_TRUE(left->members.empty());
}

TEST_F(SessionTest, CarriesAHelloWithAllTheMembersAPoolMayHave) {
  auto left_setup = setup(left_server_);
  for (std::size_t i = 0; i < kMembersMax; ++i) {
    left_setup.hello.members.push_back({make_identity(random_).id, std::string(kAddressBytesMax, 'a')});
  }
  make_sessions(std::move(left_setup), setup(right_server_));
  const auto [left, right] = open_both();
  ASSERT_TRUE(right) << right.error();
  EXPECT_EQ(right->members.size(), kMembersMax);
}

TEST_F(SessionTest, AnswersCallsInBothDirections) {
  open();
  auto to_right = call(left_, "there");
  ASSERT_TRUE(to_right) << to_right.error();
  EXPECT_EQ(text_of(*to_right), "there");
  auto to_left = call(right_, "and back");
  ASSERT_TRUE(to_left) << to_left.error();
  EXPECT_EQ(text_of(*to_left), "and back");
  EXPECT_EQ(left_server_.begun, 1U);
  EXPECT_EQ(right_server_.begun, 1U);
}

TEST_F(SessionTest, TimesOutExactlyAndTellsTheOtherEnd) {
  open();
  right_server_.delay = 1h;
  const auto until = clock_.boot_now() + 250ms;
  EXPECT_EQ(code_of(call(left_, "slow", 250ms)), Error::timed_out);
  EXPECT_EQ(clock_.boot_now(), until);
  // The budget travels in whole milliseconds and starts when the request arrives.
  EXPECT_GE(right_server_.last_budget, 249ms);
  EXPECT_LE(right_server_.last_budget, 250ms);
  clock_.run_for(1ms);
  EXPECT_EQ(right_server_.now, 0U) << "the other end was not told";
  EXPECT_GT(right_server_.stopped_at, until);
  EXPECT_EQ(code_of(call(left_, "no time", 0ns)), Error::timed_out);
  EXPECT_EQ(right_server_.begun, 1U);
}

TEST_F(SessionTest, CancellingEndsTheCallAtOnceAndStopsTheHandler) {
  open();
  right_server_.delay = 1h;
  std::stop_source stop;
  const auto pending = start_call(make_request("long"), limits(kFar, stop.get_token()));
  clock_.run_for(100ms);
  ASSERT_EQ(right_server_.now, 1U);
  const auto asked = clock_.boot_now();
  stop.request_stop();
  clock_.settle();
  ASSERT_TRUE(pending->outcome);
  EXPECT_EQ(code_of(*pending->outcome), Error::cancelled);
  EXPECT_EQ(pending->at, asked);
  clock_.run_for(1ms);
  EXPECT_EQ(right_server_.now, 0U);
  EXPECT_EQ(code_of(*clock_.run(left_->call(make_request("late"), limits(kFar, stop.get_token())))), Error::cancelled);
  EXPECT_EQ(right_server_.begun, 1U);
}

TEST_F(SessionTest, IgnoresAReplyThatComesAfterTheTimeOut) {
  open();
  network_->partition("left", "right");
  EXPECT_EQ(code_of(call(left_, "first", 2s)), Error::timed_out);
  network_->heal("left", "right");
  const auto second = call(left_, "second");
  ASSERT_TRUE(second) << second.error();
  EXPECT_EQ(text_of(*second), "second");
  EXPECT_TRUE(left_->is_open());
}

TEST_F(SessionTest, APartitionEndsBothSessionsAndTheirCalls) {
  open();
  right_server_.delay = 10s;
  const auto pending = start_call(make_request("cut off"), limits(1h));
  clock_.run_for(1s);
  network_->partition("left", "right");
  const auto cut = clock_.boot_now();
  ASSERT_TRUE(clock_.run_while_not([&] { return pending->outcome.has_value(); }));
  EXPECT_EQ(code_of(*pending->outcome), Error::unreachable);
  // 15 s of silence, then 10 s for the ping, counted from the last frame, which came within the last second.
  EXPECT_LE(pending->at, cut + 25s);
  EXPECT_GE(pending->at, cut + 23s);
  EXPECT_FALSE(left_->is_open());
  clock_.run_for(2s);
  EXPECT_FALSE(right_->is_open());
  EXPECT_EQ(right_server_.now, 0U);
}

TEST_F(SessionTest, AnIdleSessionLivesOnAFewPings) {
  open();
  const auto before = network_->frames();
  clock_.run_for(1h);
  EXPECT_TRUE(left_->is_open());
  EXPECT_TRUE(right_->is_open());
  EXPECT_LE(network_->frames() - before, 2U * 2U * 3600U / 15U);
  EXPECT_TRUE(call(left_, "still there"));
}

TEST_F(SessionTest, AThousandCallsAtOnceAreAllAnsweredWithinTheBounds) {
  open();
  right_server_.delay = 5ms;
  std::vector<std::shared_ptr<Pending>> calls;
  for (int i = 0; i < 1000; ++i) calls.push_back(start_call(make_request(std::to_string(i), 1000), limits()));
  clock_.run_for(kFar);
  for (int i = 0; i < 1000; ++i) {
    const auto& outcome = calls[static_cast<std::size_t>(i)]->outcome;
    ASSERT_TRUE(outcome && *outcome) << i;
    EXPECT_EQ(text_of(**outcome), std::to_string(i));
    EXPECT_EQ((*outcome)->payload.size(), 1000U);
  }
  EXPECT_EQ(right_server_.most, SessionLimits{}.requests_max);
}

TEST_F(SessionTest, ServesNoMoreAtOnceThanItsBound) {
  SessionLimits few;
  few.requests_max = 3;
  open({}, few);
  right_server_.delay = 1s;
  std::vector<std::shared_ptr<Pending>> calls;
  for (int i = 0; i < 7; ++i) calls.push_back(start_call(make_request("x"), limits()));
  clock_.run_for(900ms);
  EXPECT_EQ(right_server_.now, 3U);
  EXPECT_EQ(right_server_.begun, 3U);
  clock_.run_for(10s);
  EXPECT_EQ(right_server_.begun, 7U);
  EXPECT_EQ(right_server_.most, 3U);
  for (const auto& pending : calls) EXPECT_TRUE(pending->outcome && *pending->outcome);
}

TEST_F(SessionTest, ReadsNoMorePayloadAtOnceThanItsBound) {
  SessionLimits narrow;
  narrow.request_bytes_max = kPayloadBytesMax;
  open({}, narrow);
  right_server_.delay = 1s;
  for (int i = 0; i < 6; ++i) start_call(make_request("x", kPayloadBytesMax / 2), limits());
  clock_.run_for(900ms);
  EXPECT_EQ(right_server_.now, 2U);
  clock_.run_for(10s);
  EXPECT_EQ(right_server_.begun, 6U);
  EXPECT_EQ(right_server_.most, 2U);
}

TEST_F(SessionTest, SaysBusyWhenTooManyWait) {
  SessionLimits few;
  few.calls_max = 2;
  few.calls_waiting_max = 3;
  open(few);
  right_server_.delay = 1s;
  std::vector<std::shared_ptr<Pending>> calls;
  for (int i = 0; i < 7; ++i) calls.push_back(start_call(make_request("x"), limits()));
  clock_.settle();
  std::size_t busy = 0;
  for (const auto& pending : calls) busy += pending->outcome && code_of(*pending->outcome) == Error::busy ? 1U : 0U;
  EXPECT_EQ(busy, 2U);
  clock_.run_for(10s);
  EXPECT_EQ(right_server_.begun, 5U);
}

TEST_F(SessionTest, WaitersGiveUpAtTheirOwnTimeAndLetOthersPass) {
  SessionLimits one;
  one.calls_max = 1;
  open(one);
  right_server_.delay = 2s;
  const auto first = start_call(make_request("1"), limits());
  const auto hasty = start_call(make_request("2"), limits(500ms));
  std::stop_source stop;
  const auto stopped = start_call(make_request("3"), limits(kFar, stop.get_token()));
  const auto last = start_call(make_request("4"), limits());
  clock_.run_for(500ms);
  ASSERT_TRUE(hasty->outcome);
  EXPECT_EQ(code_of(*hasty->outcome), Error::timed_out);
  stop.request_stop();
  clock_.settle();
  ASSERT_TRUE(stopped->outcome);
  EXPECT_EQ(code_of(*stopped->outcome), Error::cancelled);
  clock_.run_for(10s);
  EXPECT_TRUE(first->outcome && *first->outcome);
  EXPECT_TRUE(last->outcome && *last->outcome);
  EXPECT_EQ(right_server_.begun, 2U);
}

TEST_F(SessionTest, BoundsWhatIsQueuedForAPeerThatDoesNotRead) {
  open();
  network_->partition("left", "right");
  std::vector<std::shared_ptr<Pending>> calls;
  const auto until = clock_.boot_now() + 5s;
  for (int i = 0; i < 100; ++i) calls.push_back(start_call(make_request("x", 1U << 20U), limits(5s)));
  clock_.run_for(6s);
  for (const auto& pending : calls) {
    ASSERT_TRUE(pending->outcome);
    EXPECT_EQ(code_of(*pending->outcome), Error::timed_out);
    EXPECT_EQ(pending->at, until);
  }
  network_->heal("left", "right");
  const auto after = call(left_, "after");
  ASSERT_TRUE(after) << after.error();
  // Only what had left before is served: what still waited in the queue was dropped with its calls.
  EXPECT_LT(right_server_.begun, 10U);
}

TEST_F(SessionTest, ClosingEndsPendingCallsAndStopsHandlers) {
  open();
  right_server_.delay = 1h;
  const auto pending = start_call(make_request("x"), limits());
  clock_.run_for(10ms);
  left_->close();
  clock_.settle();
  ASSERT_TRUE(pending->outcome);
  EXPECT_EQ(code_of(*pending->outcome), Error::unreachable);
  EXPECT_EQ(code_of(call(left_, "closed")), Error::unreachable);
  clock_.run_for(10ms);
  EXPECT_FALSE(right_->is_open());
  EXPECT_EQ(right_server_.now, 0U);
}

// The Nth frame breaks the channel, for N = 1, 2, ... until nothing breaks: no call hangs, and each has an answer or
// says unreachable.
TEST_F(SessionTest, NoFrameIsOneWhoseLossHangsACall) {
  bool broke = true;
  for (std::uint64_t nth = 1; broke; ++nth) {
    ASSERT_LT(nth, 50U);
    SCOPED_TRACE(nth);
    network_->break_at_frame(nth);
    auto left_setup = setup(left_server_);
    auto right_setup = setup(right_server_);
    make_sessions(std::move(left_setup), std::move(right_setup));
    const auto [left, right] = open_both();
    broke = !left || !right;
    for (int i = 0; i < 3; ++i) {
      const auto begun = clock_.boot_now();
      const auto outcome = call(left_, "x");
      if (!outcome) {
        broke = true;
        EXPECT_EQ(outcome.error().code, Error::unreachable) << outcome.error();
        EXPECT_LT(clock_.boot_now(), begun + 1s);
      }
    }
    left_->close();
    right_->close();
    EXPECT_TRUE(clock_.run(tasks_.join(), 1min));
  }
}

TEST_F(SessionTest, RefusesAnotherVersionOnBothEnds) {
  auto left_setup = setup(left_server_);
  left_setup.hello.version = 2;
  make_sessions(std::move(left_setup), setup(right_server_));
  const auto [left, right] = open_both();
  for (const auto& end : {left, right}) {
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, Error::version);
    EXPECT_NE(end.error().detail.find("version 1"), std::string::npos) << end.error();
    EXPECT_NE(end.error().detail.find("version 2"), std::string::npos) << end.error();
  }
  clock_.run_for(3s);
  EXPECT_FALSE(left_->is_open());
  EXPECT_FALSE(right_->is_open());
}

TEST_F(SessionTest, EndsWhenItsGreetingIsRefused) {
  auto right_setup = setup(right_server_);
  right_setup.greet = [](const Hello&) -> Result<> { return core::fail(Error::not_permitted, "not you"); };
  make_sessions(setup(left_server_), std::move(right_setup));
  const auto [left, right] = open_both();
  ASSERT_FALSE(right);
  EXPECT_EQ(right.error().code, Error::not_permitted);
  clock_.run_for(3s);
  EXPECT_FALSE(left_->is_open());
  EXPECT_EQ(clock_.run(right_->ended())->code, Error::not_permitted);
}

TEST_F(SessionTest, GivesUpOnOneWhoSaysNothing) {
  auto [left, right] = connect();
  left_ = Session::make(context_.get_executor(), clock_, tasks_, std::move(left), setup(left_server_));
  const auto until = clock_.boot_now() + 7s;
  const auto opened = clock_.run(left_->open(until));
  ASSERT_TRUE(opened && !*opened);
  EXPECT_EQ(opened->error().code, Error::timed_out);
  EXPECT_EQ(clock_.boot_now(), until);
}

TEST_F(SessionTest, FailuresKeepTheirCodeOnlyWhereItSaysSomething) {
  open();
  const std::vector<std::pair<Error, Error>> codes{
      {Error::not_found, Error::not_found},
      {Error::damaged, Error::damaged},
      {Error::no_space, Error::no_space},
      {Error::not_permitted, Error::not_permitted},
      {Error::busy, Error::busy},
      {Error::invalid_argument, Error::invalid_argument},
      {Error::cancelled, Error::unreachable},
      {Error::bad_passphrase, Error::protocol},
      {Error::is_directory, Error::protocol},
  };
  for (const auto& [given, seen] : codes) {
    right_server_.failure = core::fail(given, "what\nit said");
    const auto outcome = call(left_, "x");
    EXPECT_EQ(code_of(outcome), seen);
    EXPECT_NE(outcome.error().detail.find("what?it said"), std::string::npos) << outcome.error();
  }
}

// Frames that a well-behaved end would not send: the session ends with `protocol`.
class BadFrameTest : public SessionTest, public ::testing::WithParamInterface<int> {};

TEST_P(BadFrameTest, EndsTheSession) {
  auto [left, right] = connect();
  const std::unique_ptr<Channel> raw = std::move(left);
  right_ = Session::make(context_.get_executor(), clock_, tasks_, std::move(right), setup(right_server_));
  std::vector<Frame> frames;
  Message hello = pack_hello({});
  Frame greeting{pack_packet({MessageKind::hello, 0, 0, hello.body}), hello.payload};
  Frame request{pack_packet({MessageKind::status, 1, 1000, {}}), {}};
  switch (GetParam()) {
    case 0:  // no hello
      frames = {request};
      break;
    case 1:  // not a packet
      frames = {greeting, Frame{random_.bytes(100), {}}};
      break;
    case 2:  // an id used for two at once
      right_server_.delay = 1h;
      frames = {greeting, request, request};
      break;
    case 3:  // two hellos
      frames = {greeting, greeting};
      break;
    case 4:  // a kind that is no request and no frame of a session
      frames = {greeting, Frame{pack_packet({static_cast<MessageKind>(9), 1, 0, {}}), {}}};
      break;
    case 5:  // a member list that is none
      greeting.payload = core::SharedBytes::copy_of(random_.bytes(1000));
      frames = {greeting};
      break;
    default:  // a member with half an id
      hello = pack_members({});
      greeting.payload = core::SharedBytes::copy_of(core::as_bytes("\x0a\x04\x0a\x02xy"));
      frames = {greeting};
      break;
  }
  clock_.run([&]() -> awaitable<void> {
    for (const auto& frame : frames) (void)co_await raw->send(frame);
  }());
  (void)clock_.run(right_->open(clock_.boot_now() + kFar));
  const auto reason = clock_.run(right_->ended());
  ASSERT_TRUE(reason);
  EXPECT_EQ(reason->code, Error::protocol) << *reason;
}

INSTANTIATE_TEST_SUITE_P(Frames, BadFrameTest, ::testing::Range(0, 7));

TEST_F(SessionTest, AReplyToNothingIsIgnored) {
  auto [left, right] = connect();
  const std::unique_ptr<Channel> raw = std::move(left);
  right_ = Session::make(context_.get_executor(), clock_, tasks_, std::move(right), setup(right_server_));
  clock_.run([&]() -> awaitable<void> {
    Message hello = pack_hello({});
    std::vector<Frame> frames{Frame{pack_packet({MessageKind::hello, 0, 0, hello.body}), hello.payload},
                              Frame{pack_packet({MessageKind::reply, 77, 0, {}}), {}},
                              Frame{pack_packet({MessageKind::failure, 78, 0, {}}), {}},
                              Frame{pack_packet({MessageKind::cancel, 79, 0, {}}), {}}};
    for (const auto& frame : frames) (void)co_await raw->send(frame);
  }());
  EXPECT_TRUE(*clock_.run(right_->open(clock_.boot_now() + kFar)));
  clock_.run_for(1s);
  EXPECT_TRUE(right_->is_open());
}

std::uint64_t trace_of(std::uint64_t seed) {
  core::asio::io_context context;
  VirtualClock clock(context);
  Random random(1);
  const Identity a = make_identity(random);
  const Identity b = make_identity(random);
  SimNetwork network(context.get_executor(), clock, seed);
  const auto from = network.transport_for(a.id, a.key, "a");
  const auto to = network.transport_for(b.id, b.key, "b");
  const auto listener = *to->listen("b:0");
  core::TaskGroup tasks;
  Server server(clock);
  server.delay = 3ms;
  Session::Setup setup;
  setup.handler = [&](Message request, CallLimits limits) { return server.handle(std::move(request), limits); };
  auto left = clock.run(from->connect(listener->address(), b.id, clock.boot_now() + kFar));
  auto right = clock.run(listener->accept());
  const auto caller = Session::make(context.get_executor(), clock, tasks, std::move(**left), setup);
  const auto callee = Session::make(context.get_executor(), clock, tasks, std::move(**right), setup);
  tasks.spawn(context.get_executor(),
              [&]() -> awaitable<void> { (void)co_await callee->open({clock.boot_now() + kFar}); });
  clock.run(caller->open(clock.boot_now() + kFar));
  for (int i = 0; i < 20; ++i) {
    tasks.spawn(context.get_executor(), [&]() -> awaitable<void> {
      Message request = make_request("x", 5000);
      CallLimits limits{clock.boot_now() + 3500us, {}};
      (void)co_await caller->call(std::move(request), std::move(limits));
    });
  }
  clock.run_for(1min);
  caller->close();
  callee->close();
  clock.run(tasks.join());
  return network.trace();
}

TEST(SimNetworkTest, EqualSeedsGiveEqualTraces) {
  EXPECT_EQ(trace_of(7), trace_of(7));
  EXPECT_NE(trace_of(7), trace_of(8));
}

}  // namespace
}  // namespace ephfs::net::testing
