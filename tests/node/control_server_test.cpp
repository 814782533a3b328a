// SPDX-License-Identifier: Apache-2.0
#include "node/control_server.hpp"

#include <fstream>
#include <future>
#include <thread>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/temp_dir.hpp"

namespace ephfs::node::testing {
namespace {

using ephfs::testing::TempDir;

class ControlServerTest : public ::testing::Test {
 protected:
  ControlServerTest() {
    handlers_["/status"] = [](const ControlRequest& request) {
      return ControlResponse{200, "application/json", "{\"query\":\"" + std::string(request.query) + "\"}"};
    };
    handlers_["/broken"] = [](const ControlRequest&) { return ControlResponse{500, "text/plain", "no disk\nx\n"}; };
    server_.emplace(loop_.get_executor(), path_, handlers_);
  }
  ~ControlServerTest() override {
    core::asio::co_spawn(loop_, server_->stop(), [this](const std::exception_ptr&) { work_.reset(); });
    thread_.join();
    EXPECT_FALSE(std::filesystem::exists(path_));
  }

  /// What the server says to raw bytes.
  std::string say(std::string_view bytes) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::ranges::copy(path_.native(), address.sun_path);
    EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    ::shutdown(fd, SHUT_WR);
    std::string answer;
    char buffer[4096];
    for (ssize_t got = 0; (got = ::read(fd, buffer, sizeof buffer)) > 0;)
      answer.append(buffer, static_cast<std::size_t>(got));
    ::close(fd);
    return answer;
  }

  const TempDir directory_;
  const std::filesystem::path path_ = directory_ / "control.sock";
  core::asio::io_context loop_;
  std::optional<core::asio::executor_work_guard<core::asio::io_context::executor_type>> work_{loop_.get_executor()};
  std::thread thread_{[this] { loop_.run(); }};
  ControlHandlers handlers_;
  std::optional<ControlServer> server_;
};

TEST_F(ControlServerTest, AnswersFromItsTable) {
  ASSERT_TRUE(server_->start());
  const auto answer = control_get(path_, "/status?volume=1");
  ASSERT_TRUE(answer) << answer.error();
  EXPECT_EQ(*answer, "{\"query\":\"volume=1\"}");
  EXPECT_EQ(control_get(path_, "/nothing").error().code, core::Error::not_found);
  const auto broken = control_get(path_, "/broken");
  EXPECT_EQ(broken.error().code, core::Error::io);
  EXPECT_NE(broken.error().detail.find("no disk"), std::string::npos);
}

TEST_F(ControlServerTest, FailuresComeBackAsTheyWere) {
  const std::vector<core::Failure> failures{
      core::fail(core::Error::invalid_argument, "only regular files have proofs"),
      core::fail(core::Error::not_found, "file 12"),
      core::fail(core::Error::gone),
      core::fail(core::Error::busy, "the file has changes: that are not placed"),
      core::fail(core::Error::not_permitted, "no"),
      core::fail(core::Error::no_space, "no room"),
  };
  for (std::size_t i = 0; i < failures.size(); ++i) {
    handlers_["/" + std::to_string(i)] = [&, i](const ControlRequest&) { return failure_response(failures[i]); };
  }
  // What would be taken for a word on the connection is not.
  const auto elsewhere = core::fail(core::Error::unreachable, "no node answers");
  handlers_["/elsewhere"] = [&](const ControlRequest&) { return failure_response(elsewhere); };
  server_.emplace(loop_.get_executor(), path_, handlers_);
  ASSERT_TRUE(server_->start());
  for (std::size_t i = 0; i < failures.size(); ++i) {
    const auto said = control_get(path_, "/" + std::to_string(i)).error();
    EXPECT_EQ(said.code, failures[i].code) << said;
    EXPECT_EQ(said.detail, failures[i].detail);
  }
  const auto said = control_get(path_, "/elsewhere").error();
  EXPECT_EQ(said.code, core::Error::io);
  EXPECT_EQ(said.detail, elsewhere.message());
}

TEST_F(ControlServerTest, PostDoesWhatGetDoesNot) {
  handlers_["POST /act"] = [](const ControlRequest&) { return ControlResponse{.body = "\"done\""}; };
  server_.emplace(loop_.get_executor(), path_, handlers_);
  ASSERT_TRUE(server_->start());
  EXPECT_EQ(*control_post(path_, "/act"), "\"done\"");
  EXPECT_EQ(control_get(path_, "/act").error().code, core::Error::io) << "405";
  EXPECT_EQ(control_post(path_, "/status").error().code, core::Error::io) << "405";
  EXPECT_EQ(control_post(path_, "/nothing").error().code, core::Error::not_found);
}

TEST_F(ControlServerTest, IsForItsOwnerOnly) {
  ASSERT_TRUE(server_->start());
  EXPECT_EQ(std::filesystem::status(path_).permissions() & std::filesystem::perms::mask, std::filesystem::perms(0600));
}

TEST_F(ControlServerTest, ReplacesADeadSocketButNotALivingOne) {
  std::ofstream(path_) << "not a socket";
  ASSERT_TRUE(server_->start());
  ControlServer second(loop_.get_executor(), path_, handlers_);
  EXPECT_EQ(second.start().error().code, core::Error::busy);
  EXPECT_TRUE(control_get(path_, "/status"));
}

TEST_F(ControlServerTest, SaysWhenNobodyListens) {
  EXPECT_EQ(control_get(path_, "/status").error().code, core::Error::unreachable);
  EXPECT_EQ(control_get(directory_ / std::string(200, 'x'), "/").error().code, core::Error::invalid_argument);
  ASSERT_TRUE(server_->start());
}

TEST_F(ControlServerTest, DoesWhatIsPosted) {
  ControlActions actions;
  actions["/double"] = [](std::string body) -> awaitable<ControlResponse> {
    co_await core::asio::post(core::asio::use_awaitable);
    if (body.empty()) co_return ControlResponse{400, "text/plain", "nothing to double\n"};
    co_return ControlResponse{200, "text/plain", body + body};
  };
  const auto path = directory_ / "acting.sock";
  ControlServer acting(loop_.get_executor(), path, handlers_, nullptr, actions);
  ASSERT_TRUE(acting.start());
  EXPECT_EQ(control_post(path, "/double", "abc", std::chrono::seconds{5}).value(), "abcabc");
  const auto refused = control_post(path, "/double", "", std::chrono::seconds{5});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().detail.find("nothing to double"), std::string::npos) << refused.error();
  EXPECT_EQ(control_get(path, "/double").error().code, core::Error::io) << "405";
  EXPECT_TRUE(control_get(path, "/status"));
  std::promise<void> stopped;
  core::asio::co_spawn(loop_, acting.stop(), [&](const std::exception_ptr&) { stopped.set_value(); });
  stopped.get_future().wait();
}

TEST_F(ControlServerTest, SurvivesNonsense) {
  ASSERT_TRUE(server_->start());
  EXPECT_EQ(say("\x16\x03\x01 not http\r\n\r\n"), "");
  EXPECT_EQ(
      say("GET /status HTTP/1.1\r\nHost: x\r\nPadding: " + std::string(kControlRequestBytesMax, 'x') + "\r\n\r\n"), "");
  EXPECT_NE(say("POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").find("405"), std::string::npos);
  EXPECT_NE(say("GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").find("200 OK"), std::string::npos);
  EXPECT_TRUE(control_get(path_, "/status"));
}

}  // namespace
}  // namespace ephfs::node::testing
