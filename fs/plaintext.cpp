// SPDX-License-Identifier: Apache-2.0
#include "fs/plaintext.hpp"

#include <array>
#include <mutex>

#include "fs/options.hpp"

namespace ephfs::fs {
namespace {

constexpr std::size_t kLarge = std::size_t{128} << 10U;

/// Wiped memory of a stripe's size, for the next run that becomes one.
class StripeMemory {
 public:
  [[nodiscard]] std::unique_ptr<std::byte[]> take() {
    const std::lock_guard lock(mutex_);
    return count_ == 0 ? nullptr : std::move(kept_[--count_]);
  }
  void give_back(std::unique_ptr<std::byte[]> memory) {
    const std::lock_guard lock(mutex_);
    if (count_ < kept_.size()) kept_[count_++] = std::move(memory);
  }

 private:
  std::mutex mutex_;
  std::array<std::unique_ptr<std::byte[]>, 4> kept_;
  std::size_t count_ = 0;
};

StripeMemory& stripe_memory() {
  static StripeMemory memory;
  return memory;
}

}  // namespace

std::unique_ptr<std::byte[]> PlainBytes::allocate(std::size_t capacity) {
  if (capacity == kStripeBytes) {
    if (auto kept = stripe_memory().take()) return kept;
  }
  std::unique_ptr<std::byte[]> fresh(new std::byte[capacity]);
  if (capacity >= kLarge) core::keep_out_of_dumps({fresh.get(), capacity});
  return fresh;
}

void PlainBytes::release() noexcept {
  if (!memory_) return;
  core::wipe({memory_.get(), size_});
  if (capacity_ == kStripeBytes) stripe_memory().give_back(std::move(memory_));
  memory_.reset();
}

}  // namespace ephfs::fs
