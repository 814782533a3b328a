// SPDX-License-Identifier: Apache-2.0
// The loop that serves the kernel, with a socket in the kernel's place.
#include "fs/fuse_loop.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <future>
#include <set>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/idle_policy.hpp"

namespace ephfs::fs::testing {
namespace {

constexpr unsigned kThreads = 4;
constexpr int kPatienceMs = 20'000;

ssize_t receive(int fd, void* room, std::size_t size, void*) {
  const ssize_t got = ::read(fd, room, size);
  if (got != 0) return got;
  errno = ENODEV;  // what the kernel says when the file system was unmounted
  return -1;
}
ssize_t send(int fd, iovec* parts, int count, void*) {
  return ::writev(fd, parts, count);
}

/// What a request about this inode waits for.
struct Gate {
  static constexpr fuse_ino_t kNode = 7;
  std::promise<void> entered, opened;
};

void on_getattr(fuse_req_t request, fuse_ino_t number, fuse_file_info*) {
  if (number == Gate::kNode) {
    auto& gate = *static_cast<Gate*>(fuse_req_userdata(request));
    gate.entered.set_value();
    gate.opened.get_future().wait();
  }
  fuse_reply_err(request, EACCES);
}
void on_read(fuse_req_t request, fuse_ino_t, std::size_t, off_t, fuse_file_info*) {
  fuse_reply_err(request, EIO);
}

/// On so many processors.
class FuseLoopTest : public ::testing::TestWithParam<unsigned> {
 protected:
  FuseLoopTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    kernel_ = ends[0];
    fuse_lowlevel_ops operations{};
    operations.getattr = on_getattr;
    operations.read = on_read;
    fuse_args arguments = FUSE_ARGS_INIT(0, nullptr);
    fuse_opt_add_arg(&arguments, "test");
    session_ = fuse_session_new(&arguments, &operations, sizeof operations, &gate_);
    fuse_opt_free_args(&arguments);
    fuse_custom_io io{};
    io.read = receive;
    io.writev = send;
    EXPECT_EQ(fuse_session_custom_io(session_, &io, ends[1]), 0);
    server_ = std::async(std::launch::async, [this] { return FuseLoop(session_, GetParam()).run(kThreads); });
    fuse_init_in init{};
    init.major = FUSE_KERNEL_VERSION;
    init.minor = 31;
    ask(FUSE_INIT, 0, init);
    EXPECT_EQ(answer().unique, last_);
  }
  ~FuseLoopTest() override {
    ::close(kernel_);
    const auto served = server_.get();
    EXPECT_TRUE(served) << served.error();
    fuse_session_destroy(session_);
  }

  template <class Body>
  std::uint64_t ask(std::uint32_t opcode, std::uint64_t node, Body body) {
    fuse_in_header header{};
    header.len = sizeof header + sizeof body;
    header.opcode = opcode;
    header.unique = ++last_;
    header.nodeid = node;
    header.pid = caller_;
    std::array<iovec, 2> parts{iovec{&header, sizeof header}, iovec{&body, sizeof body}};
    EXPECT_EQ(::writev(kernel_, parts.data(), parts.size()), static_cast<ssize_t>(header.len));
    return header.unique;
  }
  fuse_out_header answer() {
    fuse_out_header header{};
    pollfd one{kernel_, POLLIN, 0};
    EXPECT_EQ(::poll(&one, 1, kPatienceMs), 1) << "nobody answers";
    std::array<char, 4096> room{};
    if (one.revents != 0 && ::read(kernel_, room.data(), room.size()) > 0)
      std::memcpy(&header, room.data(), sizeof header);
    return header;
  }

  Gate gate_;
  int kernel_ = -1;
  fuse_session* session_ = nullptr;
  std::future<core::Result<>> server_;
  std::uint64_t last_ = 0;
  std::uint32_t caller_ = 0;
};

bool any_thread_is_idle() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (::sched_getscheduler(std::stoi(task.path().filename())) == SCHED_IDLE) return true;
  }
  return false;
}

TEST_P(FuseLoopTest, EachRequestIsAnsweredOnce) {
  constexpr int kRounds = 200;
  constexpr std::uint64_t kNode = 1;
  for (int round = 0; round < kRounds; ++round) {
    // One alone, one that is handed on because of its size, and several that wait for one another.
    std::set<std::uint64_t> open{ask(FUSE_GETATTR, kNode, fuse_getattr_in{})};
    EXPECT_EQ(open.erase(answer().unique), 1U);
    fuse_read_in large{};
    large.size = 1U << 20U;
    for (int i = 0; i < 3; ++i) {
      open.insert(ask(FUSE_READ, kNode, large));
      open.insert(ask(FUSE_GETATTR, kNode, fuse_getattr_in{}));
    }
    while (!open.empty()) ASSERT_EQ(open.erase(answer().unique), 1U);
  }
}

TEST_P(FuseLoopTest, WhoIsStuckHoldsNobodyElseUp) {
  const auto stuck = ask(FUSE_GETATTR, Gate::kNode, fuse_getattr_in{});
  gate_.entered.get_future().wait();
  for (int i = 0; i < 3; ++i) {
    const auto other = ask(FUSE_GETATTR, 1, fuse_getattr_in{});
    EXPECT_EQ(answer().unique, other);
  }
  gate_.opened.set_value();
  EXPECT_EQ(answer().unique, stuck);
}

class FuseLoopAffinityTest : public FuseLoopTest {
 protected:
  void SetUp() override {
    if (!core::may_leave_idle()) GTEST_SKIP() << "a thread may not come back from idle priority here";
    if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "needs two processors";
    caller_ = static_cast<std::uint32_t>(::gettid());
  }
  /// Asks one thing after another, as whom a thread joins does.
  void be_joined() {
    for (int asked = 0; !any_thread_is_idle(); ++asked) {
      ASSERT_LT(asked, 100'000) << "nobody joins";
      const auto question = ask(FUSE_GETATTR, 1, fuse_getattr_in{});
      EXPECT_EQ(answer().unique, question);
    }
  }
  static void wait_until_nobody_has_joined() {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
    while (any_thread_is_idle()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << "a thread stays with its caller";
      std::this_thread::yield();
    }
  }
};

TEST_P(FuseLoopAffinityTest, WhoHasNothingToDoIsParted) {
  for (int round = 0; round < 3; ++round) {
    be_joined();
    wait_until_nobody_has_joined();
  }
}

TEST_P(FuseLoopAffinityTest, WhoIsStuckIsParted) {
  be_joined();
  const auto stuck = ask(FUSE_GETATTR, Gate::kNode, fuse_getattr_in{});
  gate_.entered.get_future().wait();
  wait_until_nobody_has_joined();
  gate_.opened.set_value();
  EXPECT_EQ(answer().unique, stuck);
}

INSTANTIATE_TEST_SUITE_P(Processors, FuseLoopAffinityTest, ::testing::Values(2U, 4U),
                         ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Processors, FuseLoopTest, ::testing::Values(2U, 4U), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace ephfs::fs::testing
