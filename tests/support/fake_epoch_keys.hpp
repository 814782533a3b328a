// SPDX-License-Identifier: Apache-2.0
// Epoch keys that all follow from one key, for tests of what is above them: nothing is kept on disk, and what
// was destroyed is only remembered as long as the object lives.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>

#include "core/aead.hpp"
#include "core/keyring.hpp"
#include "core/little_endian.hpp"

namespace ephfs::testing {

class FakeEpochKeys final : public core::EpochKeys {
 public:
  explicit FakeEpochKeys(const core::Key& root) : root_(root.copy()) {}

  [[nodiscard]] core::Result<core::Key> key_for(core::Deadline deadline) const override {
    constexpr std::int64_t kEpochs = std::int64_t{1} << 32U;
    const std::lock_guard lock(mutex_);
    std::int64_t epoch = -1;
    if (!deadline.is_never()) {
      if (deadline.raw() < 0 || deadline.raw() / kEpoch.count() < punctured_.until.ms / kEpoch.count())
        return core::fail(core::Error::stale, "that epoch is over");
      epoch = deadline.raw() / kEpoch.count();
      if (epoch >= kEpochs) return core::fail(core::Error::invalid_argument, "there are no more epochs");
    }
    std::array<std::byte, sizeof epoch> salt{};
    core::store_le(core::MutableByteView(salt), epoch);
    return core::derive_key(root_, "testonly", salt);
  }
  [[nodiscard]] core::Result<> puncture(core::Instant confirmed) override {
    const std::lock_guard lock(mutex_);
    if (fails) return core::fail(core::Error::io, "the keys' disk");
    const core::Instant until{confirmed.ms - confirmed.ms % kEpoch.count()};
    if (until > punctured_.until) punctured_ = {until, confirmed};
    return {};
  }
  [[nodiscard]] core::PunctureRecord punctured() const override {
    const std::lock_guard lock(mutex_);
    return punctured_;
  }

  std::atomic<bool> fails{false};  // puncture() does

 private:
  const core::Key root_;
  mutable std::mutex mutex_;
  core::PunctureRecord punctured_;
};

}  // namespace ephfs::testing
