// SPDX-License-Identifier: Apache-2.0
#include "core/async.hpp"

#include <exception>
#include <vector>

namespace ephfs::core {

struct TaskGroup::State {
  mutable std::mutex mutex;
  std::condition_variable idle;
  std::size_t running = 0;
  std::vector<std::function<void()>> joiners;

  void finish_one() {
    std::vector<std::function<void()>> wake;
    {
      const std::lock_guard lock(mutex);
      if (--running > 0) return;
      wake.swap(joiners);
      idle.notify_all();
    }
    for (auto& resume : wake) resume();
  }
};

std::shared_ptr<TaskGroup::State> TaskGroup::make_state() {
  return std::make_shared<State>();
}

TaskGroup::~TaskGroup() {
  EPHFS_CHECK(running() == 0, "a task group is joined before it is destroyed");
}

void TaskGroup::spawn(const asio::any_io_executor& executor, std::function<awaitable<void>()> task) {
  {
    const std::lock_guard lock(state_->mutex);
    ++state_->running;
  }
  asio::co_spawn(executor, std::move(task), [state = state_](const std::exception_ptr& thrown) {
    EPHFS_CHECK(!thrown, "a task reports failures as Results and throws nothing");
    state->finish_one();
  });
}

std::size_t TaskGroup::running() const {
  const std::lock_guard lock(state_->mutex);
  return state_->running;
}

awaitable<void> TaskGroup::join() {
  auto state = state_;
  // Named, because GCC 12 destroys a capturing temporary inside a co_await expression twice.
  const auto add_joiner = [state](std::function<void()> resume) {
    {
      const std::lock_guard lock(state->mutex);
      if (state->running > 0) {
        state->joiners.push_back(std::move(resume));
        return;
      }
    }
    resume();
  };
  while (running() > 0) co_await suspend(add_joiner);
}

void TaskGroup::wait() {
  std::unique_lock lock(state_->mutex);
  state_->idle.wait(lock, [this] { return state_->running == 0; });
}

}  // namespace ephfs::core
