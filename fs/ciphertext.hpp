// SPDX-License-Identifier: Apache-2.0
// A run of a stripe's ciphertext, got from its nodes, and the plaintext in it. What a mounted volume and `ephfs fetch`
// read goes through here. Free functions; thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/buffer_pool.hpp"
#include "fs/extent_codec.hpp"
#include "fs/shard_gather.hpp"

namespace ephfs::fs {

using core::BufferPool;
using core::shared_part;

/// Ciphertext of a stripe from `base` on, in pieces laid end to end.
struct Ciphertext {
  std::uint64_t base = 0;
  std::vector<core::SharedBytes> pieces;
  /// damaged for what it does not reach.
  [[nodiscard]] Result<> copy(std::uint64_t offset, core::MutableByteView out) const;
  /// As many bytes as `room` has: where they are, or copied there when they lie in two pieces. damaged as copy().
  [[nodiscard]] Result<core::ByteView> view(std::uint64_t offset, core::MutableByteView room) const;
};
using CiphertextPtr = std::shared_ptr<const Ciphertext>;

struct GatheredRange {
  Result<CiphertextPtr> ciphertext;
  std::vector<Gathered::Fault> faults;
};
/// Bytes [from, end) of a stripe, padding included: each shard's part from its node or restored, all at once. The calls
/// run on `executor`, in `tasks`. Failures as ShardGatherer::gather().
[[nodiscard]] awaitable<GatheredRange> gather_range(ShardGatherer& gatherer, core::asio::any_io_executor executor,
                                                    core::TaskGroup& tasks, std::shared_ptr<const StripeRows> rows,
                                                    std::uint64_t from, std::uint64_t end, bool verified,
                                                    net::CallLimits limits);

/// Part of an extent's plaintext, and where it goes.
struct WantedSlice {
  meta::ExtentRecord extent;
  FileCipher cipher;
  std::uint64_t offset = 0;
  core::MutableByteView out;
};
/// As many bytes from `stripe_offset` on as `room` has; they may be there or elsewhere, and stay until the next call.
using CiphertextSource = std::function<Result<core::ByteView>(std::uint64_t stripe_offset, core::MutableByteView room)>;
/// Decrypts what is wanted, a window at a time, from ciphertext that `source` gives. damaged when it fails its check.
/// `scratch` has buffers of kWindowBytes.
[[nodiscard]] Result<> open_slice(const meta::StripeRecord& record, const WantedSlice& wanted,
                                  const CiphertextSource& source, BufferPool& scratch);

}  // namespace ephfs::fs
