// SPDX-License-Identifier: Apache-2.0
#include "core/guarded_clock.hpp"

#include <algorithm>

#include "core/log.hpp"

namespace ephfs::core {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kSlackNs = Nanoseconds(GuardedClock::kSlack).count();
constexpr std::int64_t kNsPerMs = 1'000'000;
/// Wall time in nanoseconds fits until 2262; what is beyond counts as that, and is held anyway.
constexpr std::int64_t kWallMaxMs = 9'000'000'000'000;
/// Differences that reading clocks in milliseconds makes by itself.
constexpr std::int64_t kJitterNs = 2 * kNsPerMs;
/// The time of the last tick is behind by no more than this: a tick lasts 10 ms at most.
constexpr std::int64_t kTickNsMax = 10 * kNsPerMs + kJitterNs;
/// A wall clock behind is met by running this much slower: 1/16.
constexpr std::int64_t kSlewDivisor = 16;
/// Belief without confirmation grows back by 1/1000 of the time: twice what a clock that NTP keeps may drift.
constexpr std::int64_t kCreditDivisor = 1000;
constexpr Nanoseconds kWriteEvery = 60s;
constexpr Nanoseconds kSyncEvery = 1s;
constexpr Nanoseconds kStep = 500ms;  // the time was set
constexpr Nanoseconds kSlept = 5s;    // between two looks: the machine was suspended
constexpr Milliseconds kKernelTolerance = 1s;
constexpr std::size_t kPeersMin = 3;
constexpr int kSamples = 3;
constexpr int kSampleTries = 16;
constexpr std::int64_t kSampleNsMax = 200'000;

std::int64_t offset_of(Instant wall, Boottime boot) {
  return std::clamp<std::int64_t>(wall.ms, 0, kWallMaxMs) * kNsPerMs - boot.ns;
}

Instant at_offset(Boottime boot, std::int64_t offset_ns) {
  return {(boot.ns + offset_ns) / kNsPerMs};
}

}  // namespace

Result<std::unique_ptr<GuardedClock>> GuardedClock::open(const std::filesystem::path& path, Clock& base,
                                                         const BootId& boot_id) {
  EPHFS_TRY(auto file, ClockFile::open(path));
  std::unique_ptr<GuardedClock> clock(new GuardedClock(base, std::move(file), boot_id));
  clock->start();
  const std::lock_guard lock(clock->mutex_);
  EPHFS_TRY_VOID(clock->write_locked(true));
  return clock;
}

GuardedClock::GuardedClock(Clock& base, ClockFile file, const BootId& boot_id)
    : base_(base), boot_id_(boot_id), file_(std::move(file)) {}

void GuardedClock::start() {
  const std::int64_t offset = sample_offset();
  const Boottime boot = base_.boot_now();
  std::int64_t believed = offset;
  std::int64_t ceiling = offset + kSlackNs;
  if (const auto& mark = file_.mark()) {
    floor_ms_ = mark->confirmed.ms;
    if (mark->boot_id == boot_id_ && mark->boot <= boot) {
      believed = mark->offset_ns;
      ceiling = std::min(believed + kSlackNs, mark->ceiling_ns + (boot - mark->boot).count() / kCreditDivisor);
    } else {
      // Of another boot only the mark is known: how long the machine was off is not. The wall clock that needs no
      // confirmation is the one that needed none at the mark.
      believed = mark->confirmed.ms * kNsPerMs - boot.ns;
      ceiling = std::clamp(mark->ceiling_ns + mark->boot.ns - boot.ns, believed, believed + kSlackNs);
    }
  }
  believed_ = believed;
  ceiling_ = ceiling;
  believe(offset);
  last_offset_ = offset;
  last_look_ = boot;
}

GuardedClock::~GuardedClock() {
  const std::lock_guard lock(mutex_);
  if (const auto written = write_locked(true); !written)
    log_line("writing the clock file: " + written.error().message());
}

// The wall clock is read first: a thread that is held up between the two readings then sees an offset that is
// too small and changes nothing. The other way round it would move time forward for good.

Instant GuardedClock::now() const {
  const Instant wall = base_.now();
  const Boottime boot = base_.boot_now();
  return std::max(wall, confirmed_at(boot, believe(offset_of(wall, boot))));
}

Instant GuardedClock::confirmed_now() const {
  const Instant wall = base_.now();
  const Boottime boot = base_.boot_now();
  return confirmed_at(boot, believe(offset_of(wall, boot)));
}

std::int64_t GuardedClock::file_time_ns() const {
  const std::int64_t base = base_.file_time_ns();
  const std::int64_t present = now().ms * kNsPerMs;
  return present - base > kTickNsMax ? present : base;
}

Instant GuardedClock::confirmed_at(Boottime boot, std::int64_t believed) const {
  return {std::max(floor_ms_.load(std::memory_order_acquire), at_offset(boot, believed).ms)};
}

std::int64_t GuardedClock::believe(std::int64_t offset_ns) const {
  if (offset_ns > ceiling_.load(std::memory_order_acquire)) return believed_.load(std::memory_order_acquire);
  return believe_at_least(offset_ns);
}

std::int64_t GuardedClock::believe_at_least(std::int64_t offset_ns) const {
  std::int64_t believed = believed_.load(std::memory_order_acquire);
  while (offset_ns > believed) {
    if (believed_.compare_exchange_weak(believed, offset_ns)) return offset_ns;
  }
  return believed;
}

Instant GuardedClock::destruction_now() {
  const std::lock_guard lock(mutex_);
  const Instant confirmed = confirmed_now();
  const auto& mark = file_.mark();
  if (mark && mark->confirmed >= confirmed) return confirmed;
  const bool sync = !last_sync_ || base_.boot_now() - *last_sync_ >= kSyncEvery;
  if (const auto written = write_locked(sync); !written) {
    if (!std::exchange(write_failed_, true)) {
      log_line("destruction waits for the clock file: " + written.error().message());
    }
    return mark ? mark->confirmed : Instant{0};
  }
  write_failed_ = false;
  return confirmed;
}

std::int64_t GuardedClock::sample_offset() const {
  std::optional<std::int64_t> best;
  int good = 0;
  for (int i = 0; i < kSampleTries && good < kSamples; ++i) {
    const Boottime before = base_.boot_now();
    const Instant wall = base_.now();
    const Boottime after = base_.boot_now();
    const std::int64_t offset = offset_of(wall, after);
    if ((after - before).count() <= kSampleNsMax) ++good;
    best = best ? std::max(*best, offset) : offset;
  }
  return *best;
}

Result<> GuardedClock::write_locked(bool sync) {
  const Boottime boot = base_.boot_now();
  const std::int64_t offset = believed_;
  const std::int64_t ceiling = std::clamp<std::int64_t>(ceiling_, offset, offset + kSlackNs);
  EPHFS_TRY_VOID(file_.write({confirmed_at(boot, offset), boot, offset, ceiling, boot_id_}, sync));
  if (sync) last_sync_ = boot;
  return {};
}

Result<> GuardedClock::confirm_locked(std::int64_t offset_ns) {
  if (offset_ns > believed_) {
    const Boottime boot = base_.boot_now();
    EPHFS_TRY_VOID(file_.write({confirmed_at(boot, offset_ns), boot, offset_ns, offset_ns + kSlackNs, boot_id_}, true));
    last_sync_ = boot;
    believe_at_least(offset_ns);
  }
  ceiling_ = believed_ + kSlackNs;
  return {};
}

bool GuardedClock::note_hold_locked(std::int64_t offset_ns, std::vector<std::string>& lines) {
  const bool held = offset_ns > ceiling_;
  if (held == held_since_.has_value()) return false;
  if (held) {
    held_since_ = confirmed_at(base_.boot_now(), believed_);
    const Milliseconds ahead{(offset_ns - believed_) / kNsPerMs};
    lines.push_back("the wall clock is " + describe_span(ahead) + " ahead of the time that is known to have passed: " +
                    "what it says is over is refused, and nothing is destroyed by it until it is confirmed (NTP, the " +
                    "peers, or ephfs doctor --accept-clock)");
  } else {
    held_since_.reset();
    lines.push_back("the wall clock is believed again: destruction goes on");
  }
  return true;
}

void GuardedClock::slew_locked(std::int64_t behind, std::int64_t elapsed) {
  // A reader on another thread may be a moment past the floor already: a little more than that moment is
  // added to it.
  constexpr std::int64_t kMarginMs = 2;
  const std::int64_t before = believed_;
  floor_ms_ = std::max(floor_ms_.load(), at_offset(base_.boot_now(), before).ms + kMarginMs);
  believed_ = before - std::min(behind, elapsed / kSlewDivisor);
  const std::int64_t after = at_offset(base_.boot_now(), before).ms;
  if (floor_ms_ < after) floor_ms_ = after;
}

void GuardedClock::look() {
  std::vector<std::string> lines;
  bool changed = false;
  {
    const std::lock_guard lock(mutex_);
    const std::int64_t offset = sample_offset();
    const Boottime boot = base_.boot_now();
    const std::int64_t elapsed = (boot - last_look_).count();
    const std::int64_t believed = believe(offset);
    const std::int64_t behind = believed - offset;
    if (behind > kJitterNs && behind <= kSlackNs) slew_locked(behind, elapsed);
    ceiling_ = std::min(believed_ + kSlackNs, ceiling_ + elapsed / kCreditDivisor);
    changed = std::abs(offset - last_offset_) >= kStep.count() || elapsed >= kSlept.count();
    last_offset_ = offset;
    last_look_ = boot;
    changed = note_hold_locked(offset, lines) || changed;
    if (!last_sync_ || boot - *last_sync_ >= kWriteEvery) {
      if (const auto written = write_locked(true); !written) {
        last_sync_ = boot;
        lines.push_back("writing the clock file: " + written.error().message());
      }
    }
  }
  if (!changed) return;
  tell(lines);
}

void GuardedClock::tell(const std::vector<std::string>& lines) const {
  for (const auto& line : lines) log_line(line);
  for (const auto& listener : listeners_) listener();
}

bool GuardedClock::is_held() const {
  const Instant wall = base_.now();
  return offset_of(wall, base_.boot_now()) > ceiling_;
}

GuardedClock::Report GuardedClock::report() const {
  const std::lock_guard lock(mutex_);
  Report report;
  report.wall = base_.now();
  report.now = now();
  report.confirmed = confirmed_now();
  if (is_held()) report.held_since = held_since_.value_or(report.confirmed);
  report.behind = std::max(report.now - report.wall, Milliseconds{0});
  return report;
}

bool GuardedClock::confirm(Instant witness, Milliseconds tolerance) {
  std::vector<std::string> lines;
  bool changed = false;
  {
    const std::lock_guard lock(mutex_);
    const std::int64_t offset = sample_offset();
    const Instant wall = at_offset(base_.boot_now(), offset);
    if (std::chrono::abs(wall - witness) > tolerance) return false;
    if (const auto confirmed = confirm_locked(offset); !confirmed) {
      log_line("writing the clock file: " + confirmed.error().message());
      return false;
    }
    changed = note_hold_locked(offset, lines);
  }
  if (changed) tell(lines);
  return true;
}

bool GuardedClock::confirm_by_kernel(std::optional<Instant> kernel) {
  return kernel && confirm(*kernel, kKernelTolerance);
}

bool GuardedClock::confirm_by_peers(std::span<const Instant> answers, std::size_t asked) {
  if (answers.size() < kPeersMin || answers.size() * 2 <= asked) return false;
  const Instant wall = base_.now();
  const auto agrees = [wall](Instant answer) { return std::chrono::abs(answer - wall) <= kSlack; };
  if (static_cast<std::size_t>(std::ranges::count_if(answers, agrees)) * 2 <= asked) return false;
  std::vector<Instant> sorted(answers.begin(), answers.end());
  std::ranges::sort(sorted);
  return confirm(sorted[(sorted.size() - 1) / 2], kSlack);
}

Result<> GuardedClock::accept() {
  std::vector<std::string> lines;
  bool changed = false;
  {
    const std::lock_guard lock(mutex_);
    const std::int64_t offset = sample_offset();
    EPHFS_TRY_VOID(confirm_locked(offset));
    changed = note_hold_locked(offset, lines);
  }
  if (changed) tell(lines);
  return {};
}

}  // namespace ephfs::core
