// SPDX-License-Identifier: Apache-2.0
// The clock file: how far time had got, written down so that no restart goes back behind it. Two slots,
// written in turn and in place, so that a crash at any byte leaves the one before. Grammar: docs/formats.md.
// Not thread-safe.
#pragma once

#include <array>
#include <filesystem>
#include <optional>

#include "core/files.hpp"
#include "core/time.hpp"

namespace ephfs::core {

/// The kernel's name for the time since the machine started.
using BootId = std::array<std::byte, 16>;
/// /proc/sys/kernel/random/boot_id.
[[nodiscard]] Result<BootId> read_boot_id();

/// Confirmed time, and the boot time at which it was that.
struct ClockMark {
  Instant confirmed;
  Boottime boot;
  std::int64_t offset_ns = 0;   // confirmed minus boot, to the nanosecond
  std::int64_t ceiling_ns = 0;  // the highest offset that needs no confirmation
  BootId boot_id{};
  friend bool operator==(const ClockMark&, const ClockMark&) = default;
};

/// How far the ceiling is above the offset at most, and what it is in a file of version 1, which does not say.
constexpr Milliseconds kCeilingMax{600'000};

/// One slot of the file. Only the first kClockSlotBytes of `slot` are read; damaged or version when it is
/// none. Version 1 is read, version 2 is written.
struct ClockSlot {
  std::uint64_t sequence = 0;
  ClockMark mark;
};
constexpr std::size_t kClockSlotBytes = 98;
[[nodiscard]] Bytes encode_clock_slot(const ClockSlot& slot);
[[nodiscard]] Result<ClockSlot> parse_clock_slot(ByteView slot);

class ClockFile {
 public:
  /// Opens `path`, or makes it without a mark (mode 0600), and locks it until destroyed. busy when another
  /// process has it; damaged when neither slot can be read; version when it is of another one.
  [[nodiscard]] static Result<ClockFile> open(const std::filesystem::path& path);

  /// The mark last written; none in a new file.
  [[nodiscard]] const std::optional<ClockMark>& mark() const { return mark_; }
  /// Writes a mark where a crash of this process cannot undo it; with `sync`, where loss of power cannot
  /// either.
  [[nodiscard]] Result<> write(const ClockMark& mark, bool sync);

 private:
  ClockFile() = default;

  FileDescriptor file_;
  std::uint64_t sequence_ = 0;
  std::optional<ClockMark> mark_;
};

}  // namespace ephfs::core
