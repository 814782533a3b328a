// SPDX-License-Identifier: Apache-2.0
#include "node/event_hub.hpp"

#include <thread>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/control_server.hpp"
#include "node/control_stream.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::node::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::chrono::seconds kPatience{20};

TEST(EventHub, GivesEachListenerWhatCameSinceItListens) {
  EventHub hub;
  hub.publish("before");
  int woken = 0;
  auto first = hub.listen([&] { ++woken; });
  hub.publish("one");
  auto second = hub.listen([] {});
  hub.publish("two");
  EXPECT_EQ(woken, 2);
  EXPECT_THAT(hub.take(*first), ElementsAre("one", "two"));
  EXPECT_THAT(hub.take(*first), IsEmpty());
  EXPECT_THAT(hub.take(*second), ElementsAre("two"));
  EXPECT_TRUE(hub.has_listeners());
  first.reset();
  second.reset();
  EXPECT_FALSE(hub.has_listeners());
}

TEST(EventHub, HoldsNoMoreThanItsBoundAndSaysSo) {
  EventHub hub;
  const auto listener = hub.listen([] {});
  for (std::size_t i = 0; i < kEventsHeldMax + 3; ++i) hub.publish(std::to_string(i));
  const auto lines = hub.take(*listener);
  ASSERT_EQ(lines.size(), kEventsHeldMax + 1);
  EXPECT_EQ(lines[0], R"({"event":"lost","count":3})");
  EXPECT_EQ(lines[1], "3");
}

TEST(EventHub, BoundsItsListeners) {
  EventHub hub;
  std::vector<std::shared_ptr<EventHub::Listener>> listeners;
  for (std::size_t i = 0; i < kEventListenersMax; ++i) listeners.push_back(hub.listen([] {}));
  EXPECT_EQ(hub.listen([] {}), nullptr);
  listeners.pop_back();
  EXPECT_NE(hub.listen([] {}), nullptr);
}

class EventStream : public ::testing::Test {
 protected:
  EventStream() { server_.emplace(loop_.get_executor(), path_, ControlHandlers{}, &hub_); }
  ~EventStream() override { stop(); }
  void stop() {
    if (!thread_.joinable()) return;
    core::asio::co_spawn(loop_, server_->stop(), [this](const std::exception_ptr&) { work_.reset(); });
    thread_.join();
  }

  const ephfs::testing::TempDir directory_;
  const std::filesystem::path path_ = directory_ / "control.sock";
  EventHub hub_;
  core::asio::io_context loop_;
  std::optional<core::asio::executor_work_guard<core::asio::io_context::executor_type>> work_{loop_.get_executor()};
  std::thread thread_{[this] { loop_.run(); }};
  std::optional<ControlServer> server_;
};

TEST_F(EventStream, BringsEventsUntilTheServerStops) {
  ASSERT_TRUE(server_->start());
  auto stream = ControlStream::open(path_, "/events");
  ASSERT_TRUE(stream) << stream.error();
  EXPECT_EQ(stream->next(std::chrono::milliseconds{0}).value(), std::nullopt);
  for (int i = 0; i < 500; ++i) hub_.publish("event " + std::to_string(i));
  for (int i = 0; i < 500; ++i) {
    const auto line = stream->next(kPatience);
    ASSERT_TRUE(line) << line.error();
    EXPECT_EQ(*line, "event " + std::to_string(i));
  }
  stop();
  const auto ended = stream->next(kPatience);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, core::Error::unreachable);
}

TEST_F(EventStream, TurnsAwayMoreListenersThanItsBound) {
  ASSERT_TRUE(server_->start());
  std::vector<ControlStream> streams;
  for (std::size_t i = 0; i < kEventListenersMax; ++i) {
    auto stream = ControlStream::open(path_, "/events");
    ASSERT_TRUE(stream) << stream.error();
    streams.push_back(*std::move(stream));
  }
  const auto late = ControlStream::open(path_, "/events");
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, core::Error::busy);
}

TEST_F(EventStream, IsMissedByName) {
  ASSERT_TRUE(server_->start());
  const auto missing = ControlStream::open(path_, "/nothing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, core::Error::not_found);
}

}  // namespace
}  // namespace ephfs::node::testing
