// SPDX-License-Identifier: Apache-2.0
#include "tests/mount/death_watch.hpp"

#include <chrono>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <thread>

namespace ephfs::mount_tests {
namespace {

thread_local sigjmp_buf* landing = nullptr;

void on_sigbus(int) {
  if (landing != nullptr) siglongjmp(*landing, 1);
  std::signal(SIGBUS, SIG_DFL);
}

std::string name_of(int refusal) {
  if (refusal == kSigbus) return "SIGBUS";
  const char* name = ::strerrorname_np(refusal);
  return name == nullptr ? std::to_string(refusal) : name;
}

}  // namespace

WallMs wall_now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
}

void sleep_until(WallMs when) {
  std::this_thread::sleep_until(std::chrono::system_clock::time_point(std::chrono::milliseconds(when)));
}

int guarded(const std::function<void()>& touch) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = on_sigbus;
  ::sigaction(SIGBUS, &action, &before);
  sigjmp_buf here;
  landing = &here;
  volatile int refused = 0;
  if (sigsetjmp(here, 1) == 0) {
    touch();
  } else {
    refused = kSigbus;
  }
  landing = nullptr;
  ::sigaction(SIGBUS, &before, nullptr);
  return refused;
}

DeathWatch::DeathWatch(std::string name, std::set<int> refusals, std::function<int()> ask)
    : name_(std::move(name)), refusals_(std::move(refusals)), ask_(std::move(ask)) {}

void DeathWatch::look() {
  const WallMs began = wall_now();
  const int refusal = ask_();
  const WallMs ended = wall_now();
  if (refusal == 0) {
    last_answer_began_ = began;
    came_back_ = came_back_ || first_refusal_ended_;
    return;
  }
  if (!refusals_.contains(refusal)) unexpected_ = name_of(refusal);
  if (!first_refusal_ended_) first_refusal_ended_ = ended;
  last_refusal_began_ = began;
  last_refusal_ = refusal;
}

std::string DeathWatch::verdict(WallMs deadline) const {
  if (!last_answer_began_) return "never answered, refused with " + name_of(last_refusal_);
  if (*last_answer_began_ >= deadline) {
    return "answered " + std::to_string(*last_answer_began_ - deadline) + " ms after the deadline";
  }
  if (!first_refusal_ended_) return "never refused";
  if (*first_refusal_ended_ < deadline - kEarlyMax) {
    return "refused " + std::to_string(deadline - *first_refusal_ended_) + " ms before the deadline";
  }
  if (came_back_) return "answered again after a refusal";
  if (!unexpected_.empty()) return "refused with " + unexpected_;
  return {};
}

}  // namespace ephfs::mount_tests
