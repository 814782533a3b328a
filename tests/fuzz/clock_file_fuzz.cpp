// SPDX-License-Identifier: Apache-2.0
// A slot of a clock file as a daemon finds it after anything happened to its disk.
#include <algorithm>

#include "core/clock_file.hpp"
#include "core/signing.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace ephfs::fuzz {

std::vector<core::Bytes> samples() {
  core::ClockSlot slot;
  slot.sequence = 7;
  slot.mark = {core::Instant{1'800'000'000'000},
               core::Boottime{5'000'000'000},
               1'799'999'995'000'000'000,
               1'800'000'000'000'000'000,
               {}};
  return {core::encode_clock_slot(slot)};
}

void try_bytes(core::ByteView bytes) {
  // As they are, and with a sum that fits, or nothing behind the sum would ever be reached.
  core::Bytes summed(bytes.begin(), bytes.end());
  if (summed.size() >= core::kClockSlotBytes) {
    const auto body = core::ByteView(summed).first(core::kClockSlotBytes - 32);
    std::ranges::copy(core::sha256(body).view(), summed.begin() + static_cast<std::ptrdiff_t>(body.size()));
  }
  for (const core::ByteView one : {bytes, core::ByteView(summed)}) {
    const auto slot = core::parse_clock_slot(one);
    if (!slot) continue;
    const bool is_version_1 = one[8] == std::byte{1};
    EPHFS_CHECK(is_version_1 || std::ranges::equal(core::encode_clock_slot(*slot), one.first(core::kClockSlotBytes)),
                "a slot that was read is written as it is");
  }
}

}  // namespace ephfs::fuzz
