// SPDX-License-Identifier: Apache-2.0
#include "node/event_hub.hpp"

namespace ephfs::node {

std::vector<std::shared_ptr<EventHub::Listener>> EventHub::present_locked() const {
  std::vector<std::shared_ptr<Listener>> present;
  for (const auto& one : listeners_) {
    if (auto listener = one.lock()) present.push_back(std::move(listener));
  }
  return present;
}

std::shared_ptr<EventHub::Listener> EventHub::listen(std::function<void()> wake) {
  auto listener = std::make_shared<Listener>(std::move(wake));
  const std::lock_guard lock(mutex_);
  std::erase_if(listeners_, [](const auto& one) { return one.expired(); });
  if (listeners_.size() >= kEventListenersMax) return nullptr;
  listeners_.push_back(listener);
  return listener;
}

void EventHub::publish(const std::string& line) {
  std::vector<std::shared_ptr<Listener>> present;
  {
    const std::lock_guard lock(mutex_);
    present = present_locked();
    for (const auto& listener : present) {
      listener->lines_.push_back(line);
      if (listener->lines_.size() <= kEventsHeldMax) continue;
      listener->lines_.pop_front();
      ++listener->lost_;
    }
  }
  for (const auto& listener : present) listener->wake_();
}

std::vector<std::string> EventHub::take(Listener& listener) {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> lines;
  if (listener.lost_ > 0) lines.push_back(R"({"event":"lost","count":)" + std::to_string(listener.lost_) + "}");
  listener.lost_ = 0;
  lines.insert(lines.end(), std::make_move_iterator(listener.lines_.begin()),
               std::make_move_iterator(listener.lines_.end()));
  listener.lines_.clear();
  return lines;
}

bool EventHub::has_listeners() const {
  const std::lock_guard lock(mutex_);
  return !present_locked().empty();
}

void EventHub::wake_all() {
  std::vector<std::shared_ptr<Listener>> present;
  {
    const std::lock_guard lock(mutex_);
    present = present_locked();
  }
  for (const auto& listener : present) listener->wake_();
}

}  // namespace ephfs::node
