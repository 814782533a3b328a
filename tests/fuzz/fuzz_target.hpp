// SPDX-License-Identifier: Apache-2.0
// What a fuzz target defines: its samples, from which mutations start, and what is done with bytes. A target checks
// that a parser ends, refuses or gives back a value, and that what it gave back, written again, is read as the same
// value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/bytes.hpp"
#include "core/check.hpp"

namespace ephfs::fuzz {

/// Valid inputs, at least one.
[[nodiscard]] std::vector<core::Bytes> samples();
/// Any bytes: aborts when the parser breaks a promise.
void try_bytes(core::ByteView bytes);

}  // namespace ephfs::fuzz

// libFuzzer's entry point (llvm.org/docs/LibFuzzer.html).
extern "C" inline int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ephfs::fuzz::try_bytes({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
