// SPDX-License-Identifier: Apache-2.0
// The clock that files live and die by: wall time that never runs backwards and that no jump can make destroy
// anything. The rules, C1 to C12, are in docs/clock.md. In short:
//
//   confirmed_now() = boot_now() + B, where B, the believed offset, is persisted
//   now()           = the later of the wall clock and confirmed_now()
//
// B follows the wall clock forward by small steps, up to a ceiling; past the ceiling the clock is *held*:
// what the wall clock says is refused, and nothing is destroyed by it, until the wall clock is confirmed or
// corrected.
//
// Threads: any. now() and confirmed_now() take no lock: two readings of the base clock and two atomic loads.
// `mutex_` guards the file and the bookkeeping, and serializes everything that lowers B or moves the ceiling.
// Owner: the process.
#pragma once

#include <atomic>
#include <mutex>
#include <span>
#include <vector>

#include "core/clock.hpp"
#include "core/clock_file.hpp"

namespace ephfs::core {

class GuardedClock final : public Clock {
 public:
  /// How far the wall clock may run ahead of what boot time saw pass and still be believed, and how far
  /// behind and still be followed.
  static constexpr Milliseconds kSlack = kCeilingMax;

  struct Report {
    Instant wall, now, confirmed;
    std::optional<Instant> held_since;  // by confirmed time; none: not held
    Milliseconds behind{0};             // the wall clock behind now(); 0 when it is not
  };

  /// Opens the clock file at `path`; `base` outlives the clock. In a new file the wall clock is believed.
  /// Errors: ClockFile::open's, and io.
  [[nodiscard]] static Result<std::unique_ptr<GuardedClock>> open(const std::filesystem::path& path, Clock& base,
                                                                  const BootId& boot_id);
  /// Writes the mark down.
  ~GuardedClock() override;
  GuardedClock(const GuardedClock&) = delete;
  GuardedClock& operator=(const GuardedClock&) = delete;

  [[nodiscard]] Instant now() const override;
  [[nodiscard]] Instant confirmed_now() const override;
  /// The base clock's, unless that is behind now().
  [[nodiscard]] std::int64_t file_time_ns() const override;
  [[nodiscard]] Instant destruction_now() override;
  [[nodiscard]] Boottime boot_now() const override { return base_.boot_now(); }
  [[nodiscard]] std::unique_ptr<Timer> call_at(boost::asio::any_io_executor executor, Boottime when,
                                               std::function<void()> handler) override {
    return base_.call_at(std::move(executor), when, std::move(handler));
  }

  /// Looks at the base clock: follows small steps, notices a jump or its end, writes the mark once a minute,
  /// and tells listeners when the time was set, the machine slept, or the hold changed. To be called about
  /// once a second.
  void look();
  [[nodiscard]] bool is_held() const;
  [[nodiscard]] Report report() const;

  /// The kernel's own word: `kernel` is its time if it says it is synchronized, else none. Whether the wall
  /// clock agrees with it and is therefore confirmed.
  bool confirm_by_kernel(std::optional<Instant> kernel);
  /// What peers say it is, out of `asked` that were asked. Confirms the wall clock when at least three and
  /// more than half answered, and both their median and more than half of all asked are within the slack of
  /// it.
  bool confirm_by_peers(std::span<const Instant> answers, std::size_t asked);
  /// The owner's word: the wall clock is right.
  [[nodiscard]] Result<> accept();

  /// Called from look() and the confirmations, on their thread with no lock held. Add before the first
  /// look().
  void on_change(std::function<void()> listener) { listeners_.push_back(std::move(listener)); }

 private:
  GuardedClock(Clock& base, ClockFile file, const BootId& boot_id);

  void start();
  /// B, raised to where the wall clock, now `offset_ns` ahead of boot time, may take it.
  std::int64_t believe(std::int64_t offset_ns) const;
  std::int64_t believe_at_least(std::int64_t offset_ns) const;
  [[nodiscard]] std::int64_t sample_offset() const;
  [[nodiscard]] Result<> write_locked(bool sync);
  /// The wall clock at `offset_ns` is right: written down before it is believed.
  [[nodiscard]] Result<> confirm_locked(std::int64_t offset_ns);
  [[nodiscard]] Instant confirmed_at(Boottime boot, std::int64_t believed) const;
  /// Lowers B by at most what has passed since the last look, while the time that was shown stands still.
  void slew_locked(std::int64_t behind, std::int64_t elapsed);
  bool note_hold_locked(std::int64_t offset_ns, std::vector<std::string>& lines);
  bool confirm(Instant witness, Milliseconds tolerance);
  void tell(const std::vector<std::string>& lines) const;

  Clock& base_;
  const BootId boot_id_;
  std::vector<std::function<void()>> listeners_;
  mutable std::atomic<std::int64_t> believed_{0};  // B, in nanoseconds
  std::atomic<std::int64_t> floor_ms_{0};          // confirmed time was this: it stands still while B is lowered
  std::atomic<std::int64_t> ceiling_{0};           // the highest B that needs no confirmation

  mutable std::mutex mutex_;  // guards all below
  ClockFile file_;
  std::int64_t last_offset_ = 0;
  Boottime last_look_;
  std::optional<Boottime> last_sync_;
  std::optional<Instant> held_since_;
  bool write_failed_ = false;
};

}  // namespace ephfs::core
