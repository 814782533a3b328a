// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse_loop.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <linux/fuse.h>
#include <poll.h>

namespace ephfs::fs {
namespace {

/// Reads and writes of more are handed on.
constexpr std::uint32_t kShortBytesMax = 16U << 10U;

enum class Effort : std::uint8_t {
  none,  // less than it costs to look whether more requests wait
  little,
  waits,  // for the disk
  much,
};

fuse_in_header header_of(const fuse_buf& request) {
  fuse_in_header header{};
  std::memcpy(&header, request.mem, std::min(request.size, sizeof header));
  return header;
}

Effort effort_of(const fuse_buf& request, const fuse_in_header& header) {
  switch (header.opcode) {
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
      return Effort::none;
    case FUSE_READ: {
      fuse_read_in read{};
      if (request.size < sizeof header + sizeof read) return Effort::little;
      std::memcpy(&read, static_cast<const char*>(request.mem) + sizeof header, sizeof read);
      return read.size > kShortBytesMax ? Effort::much : Effort::little;
    }
    case FUSE_WRITE: {
      if (request.size > kShortBytesMax) return Effort::much;
      fuse_write_in write{};
      if (request.size < sizeof header + sizeof write) return Effort::little;
      std::memcpy(&write, static_cast<const char*>(request.mem) + sizeof header, sizeof write);
      // Pages that the kernel writes back come by the hundred, and all of them change one file: another thread would
      // only wait for this one.
      return (write.write_flags & FUSE_WRITE_CACHE) != 0 ? Effort::none : Effort::little;
    }
    case FUSE_FSYNC:
      return Effort::waits;
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
    case FUSE_FALLOCATE:
    case FUSE_FSYNCDIR:
      return Effort::much;
    default:
      return Effort::little;
  }
}

}  // namespace

void FuseLoop::answer_first() {
  fuse_buf request{};
  int got = 0;
  do {
    got = fuse_session_receive_buf(session_, &request);
  } while (got == -EINTR || got == -EAGAIN);
  if (got > 0) fuse_session_process_buf(session_, &request);
  std::free(request.mem);
}

core::Result<> FuseLoop::run(unsigned threads) {
  affinities_.resize(threads);
  std::vector<std::thread> others;
  for (std::uint64_t i = 1; i < threads; ++i) others.emplace_back([this, i] { work(i); });
  work(0);
  for (auto& thread : others) thread.join();
  if (status_ < 0) return core::fail_errno("serving the mount", -status_);
  return {};
}

void FuseLoop::work(std::uint64_t me) {
  SchedulerSeat seat(fuse_session_fd(session_));
  CallerAffinity affinity(seat);
  const auto list = [&](CallerAffinity* mine) {
    const std::lock_guard lock(mutex_);
    affinities_[me] = mine;
  };
  list(&affinity);
  serve(me, affinity);
  list(nullptr);
}

void FuseLoop::serve(std::uint64_t me, CallerAffinity& affinity) {
  fuse_buf request{};
  while (true) {
    if (Lead::leader(lead_) != me) affinity.part();
    if (!lead(me)) break;
    affinity.await();
    const int got = fuse_session_receive_buf(session_, &request);
    if (got == -EINTR || got == -EAGAIN) continue;
    if (got <= 0) {
      end(got);
      break;
    }
    const fuse_in_header header = header_of(request);
    const Effort effort = effort_of(request, header);
    affinity.took(effort == Effort::none ? 0 : static_cast<pid_t>(header.pid), effort != Effort::much,
                  CallerAffinity::Clock::now());
    const bool may_hand_on = effort == Effort::waits || (effort == Effort::little && processors_ > kFewProcessors);
    begin_work(me, effort == Effort::much || (may_hand_on && more_waits()));
    fuse_session_process_buf(session_, &request);
    // No longer the leader's to say when the lead was handed on, or taken.
    std::uint64_t word = lead_;
    if (Lead::leader(word) == me) (void)lead_.compare_exchange_strong(word, Lead::next(word, me, false));
  }
  std::free(request.mem);
}

bool FuseLoop::lead(std::uint64_t me) {
  if (Lead::leader(lead_) == me) return true;
  std::unique_lock lock(mutex_);
  while (!ending_) {
    std::uint64_t word = lead_;
    if (Lead::leader(word) == Lead::kNobody) {
      lead_ = Lead::next(word, me, false);
      return true;
    }
    if (has_requests_ && !has_lookout_) {
      if (look_out(lock, me)) return true;
    } else {
      ++waiting_;
      lead_free_.wait(lock);
      --waiting_;
    }
  }
  return false;
}

bool FuseLoop::look_out(std::unique_lock<std::mutex>& lock, std::uint64_t me) {
  has_lookout_ = true;
  std::uint64_t before = lead_;
  const bool was_told = look_.wait_for(lock, kLook) == std::cv_status::no_timeout;
  has_lookout_ = false;
  if (was_told || ending_ || lead_ != before) return false;
  if (auto* const leader = affinities_[Lead::leader(before)]) leader->part();
  if (!Lead::is_at_work(before)) {
    has_requests_ = false;
    // The leader may have begun just now, and seen that somebody looks out.
    if (lead_ != before) has_requests_ = true;
    return false;
  }
  if (!lead_.compare_exchange_strong(before, Lead::next(before, me, false))) return false;
  // Somebody else looks after this one.
  lead_free_.notify_one();
  return true;
}

void FuseLoop::begin_work(std::uint64_t me, bool hands_on) {
  // Nobody but this thread changes the word while it waits for a request.
  const std::uint64_t word = lead_;
  if (!hands_on) {
    lead_ = Lead::next(word, me, true);
    if (has_requests_.exchange(true)) return;
    const std::lock_guard lock(mutex_);
    lead_free_.notify_one();
    return;
  }
  const std::lock_guard lock(mutex_);
  lead_ = Lead::next(word, Lead::kNobody, false);
  (waiting_ > 0 ? lead_free_ : look_).notify_one();
}

bool FuseLoop::more_waits() const {
  pollfd connection{fuse_session_fd(session_), POLLIN, 0};
  return ::poll(&connection, 1, 0) > 0;
}

void FuseLoop::end(int status) {
  const std::lock_guard lock(mutex_);
  ending_ = true;
  status_ = std::min(status_, status);
  lead_ = Lead::next(lead_, Lead::kNobody, false);
  lead_free_.notify_all();
  look_.notify_all();
}

}  // namespace ephfs::fs
