// SPDX-License-Identifier: Apache-2.0
#include "core/clock_file.hpp"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/file.h>

#include "core/little_endian.hpp"
#include "core/signing.hpp"

namespace ephfs::core {
namespace {

constexpr std::string_view kMagic = "EPHFSCLK";
constexpr std::uint16_t kVersion = 2;
// Bounds within which sums of nanoseconds do not overflow: the year 2255, and six years since boot.
constexpr Instant kConfirmedMax{9'000'000'000'000};
constexpr std::int64_t kBootMaxNs = 200'000'000'000'000'000;
constexpr std::size_t kSlotStride = 512;  // a slot has a sector of its own
constexpr std::size_t kSumBytes = 32;
constexpr std::size_t kSumAt = 66;
constexpr std::size_t kSumAtOfVersion1 = 58;  // it had no ceiling
constexpr std::int64_t kCeilingMaxNs = Nanoseconds(kCeilingMax).count();
constexpr std::size_t kFileBytes = kSlotStride + kClockSlotBytes;
constexpr std::size_t kBootIdHexDigits = 32;

int hex_digit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}

}  // namespace

Bytes encode_clock_slot(const ClockSlot& slot) {
  Bytes bytes(kClockSlotBytes);
  const MutableByteView out(bytes);
  std::ranges::copy(as_bytes(kMagic), bytes.begin());
  store_le(out.subspan(8), kVersion);
  store_le(out.subspan(10), slot.sequence);
  store_le(out.subspan(18), slot.mark.confirmed.ms);
  store_le(out.subspan(26), slot.mark.boot.ns);
  store_le(out.subspan(34), slot.mark.offset_ns);
  std::ranges::copy(slot.mark.boot_id, bytes.begin() + 42);
  store_le(out.subspan(58), slot.mark.ceiling_ns);
  std::ranges::copy(sha256(out.first(kSumAt)).view(), bytes.begin() + kSumAt);
  return bytes;
}

Result<ClockSlot> parse_clock_slot(ByteView slot) {
  constexpr std::size_t kBytesOfVersion1 = kSumAtOfVersion1 + kSumBytes;
  if (slot.size() < kBytesOfVersion1 || !std::ranges::equal(slot.first(kMagic.size()), as_bytes(kMagic)))
    return fail(Error::damaged, "clock file");
  const auto version = load_le<std::uint16_t>(slot.subspan(8));
  const std::size_t sum_at = version == 1 ? kSumAtOfVersion1 : kSumAt;
  if (slot.size() < sum_at + kSumBytes) return fail(Error::damaged, "clock file");
  const auto sum = sha256(slot.first(sum_at));
  if (!std::ranges::equal(slot.subspan(sum_at, kSumBytes), sum.view())) return fail(Error::damaged, "clock file");
  if (version != 1 && version != kVersion) return fail(Error::version, "clock file");
  ClockSlot read;
  read.sequence = load_le<std::uint64_t>(slot.subspan(10));
  read.mark.confirmed.ms = load_le<std::int64_t>(slot.subspan(18));
  read.mark.boot.ns = load_le<std::int64_t>(slot.subspan(26));
  read.mark.offset_ns = load_le<std::int64_t>(slot.subspan(34));
  std::ranges::copy(slot.subspan(42, 16), read.mark.boot_id.begin());
  read.mark.ceiling_ns = version == 1 ? read.mark.offset_ns + kCeilingMaxNs : load_le<std::int64_t>(slot.subspan(58));
  const auto& mark = read.mark;
  const bool plausible = mark.confirmed.ms >= 0 && mark.confirmed <= kConfirmedMax && mark.boot.ns >= 0 &&
                         mark.boot.ns <= kBootMaxNs && mark.offset_ns >= -kBootMaxNs &&
                         mark.offset_ns <= kConfirmedMax.ms * 1'000'000 && mark.ceiling_ns >= mark.offset_ns &&
                         mark.ceiling_ns <= mark.offset_ns + kCeilingMaxNs;
  if (!plausible) return fail(Error::damaged, "clock file");
  return read;
}

Result<BootId> read_boot_id() {
  EPHFS_TRY(const auto content, read_file("/proc/sys/kernel/random/boot_id", 64));
  std::string digits;
  for (const char one : as_text(content)) {
    if (hex_digit(one) >= 0) digits.push_back(one);
  }
  if (digits.size() != kBootIdHexDigits) return fail(Error::damaged, "/proc/sys/kernel/random/boot_id");
  BootId id{};
  for (std::size_t i = 0; i < id.size(); ++i) {
    id[i] = static_cast<std::byte>(hex_digit(digits[2 * i]) * 16 + hex_digit(digits[2 * i + 1]));
  }
  return id;
}

Result<ClockFile> ClockFile::open(const std::filesystem::path& path) {
  ClockFile clock;
  EPHFS_TRY(clock.file_, open_file(path, O_RDWR | O_CREAT, 0600));
  if (::flock(clock.file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return fail(Error::busy, path.string() + " is in use by another process");
    return fail_errno("lock " + path.string());
  }
  EPHFS_TRY(const auto content, read_file(path, kFileBytes));
  if (content.empty()) return clock;
  for (std::size_t at = 0; at < content.size(); at += kSlotStride) {
    const auto slot = parse_clock_slot(ByteView(content).subspan(at));
    if (slot && (!clock.mark_ || slot->sequence > clock.sequence_)) {
      clock.sequence_ = slot->sequence;
      clock.mark_ = slot->mark;
    } else if (!slot && slot.error().code == Error::version) {
      return fail(Error::version, "clock file " + path.string());
    }
  }
  if (!clock.mark_) return fail(Error::damaged, "clock file " + path.string());
  return clock;
}

Result<> ClockFile::write(const ClockMark& mark, bool sync) {
  const Bytes slot = encode_clock_slot({sequence_ + 1, mark});
  EPHFS_TRY_VOID(write_all(file_, ((sequence_ + 1) % 2) * kSlotStride, slot));
  ++sequence_;
  mark_ = mark;
  if (sync) EPHFS_TRY_VOID(sync_data(file_));
  return {};
}

}  // namespace ephfs::core
