// SPDX-License-Identifier: Apache-2.0
// The threads that run a process's coroutines (sessions, placing, reaping), and its node's work on the disk.
#pragma once

#include <algorithm>
#include <future>
#include <thread>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "core/async.hpp"
#include "core/background_priority.hpp"

namespace ephfs::cli {

class Loop {
 public:
  /// How many threads serve, on a machine where `share` processors go to each. Whatever wakes a thread of several wakes
  /// a second one, which takes its place in waiting for the next: that pays only where a processor is free for it.
  [[nodiscard]] static unsigned serving_threads(unsigned share) {
    constexpr unsigned kMost = 4;
    return std::clamp(std::thread::hardware_concurrency() / share, 1U, kMost);
  }
  /// For what waits for the disk.
  static constexpr unsigned kDiskThreads = 2;

  explicit Loop(unsigned threads) : context_(static_cast<int>(threads)), work_(context_.get_executor()) {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { context_.run(); });
  }
  /// One thread of idle priority, for what nobody waits for.
  explicit Loop(core::BackgroundPriority::Limits limits) : context_(1), work_(context_.get_executor()) {
    threads_.emplace_back([this, limits] {
      core::BackgroundPriority priority(limits);
      while (context_.run_one() > 0) priority.look();
    });
  }
  /// What was spawned has ended by now: whoever spawned it has joined it.
  ~Loop() {
    work_.reset();
    context_.stop();
    for (auto& thread : threads_) thread.join();
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  [[nodiscard]] core::asio::any_io_executor executor() { return context_.get_executor(); }

  /// Runs a coroutine and waits for it, from a thread that is none of the loop's.
  template <class T>
  T run(core::awaitable<T> task) {
    return start(std::move(task)).get();
  }
  /// The same without waiting. Who waits for it later is no thread of the loop's either: what it needs may be that
  /// thread's to do.
  template <class T>
  std::future<T> start(core::awaitable<T> task) {
    return core::asio::co_spawn(context_, std::move(task), core::asio::use_future);
  }

 private:
  core::asio::io_context context_;
  core::asio::executor_work_guard<core::asio::io_context::executor_type> work_;
  std::vector<std::thread> threads_;
};

}  // namespace ephfs::cli
