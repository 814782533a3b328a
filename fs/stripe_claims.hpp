// SPDX-License-Identifier: Apache-2.0
// Who works on a stripe: placing, repairing and deleting exclude one another, stripe by stripe. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>

#include "core/ids.hpp"

namespace ephfs::fs {

class StripeClaims {
 public:
  /// `on_release` is called, with no lock held, when a claim ends that somebody else was refused.
  explicit StripeClaims(std::function<void()> on_release) : on_release_(std::move(on_release)) {}

  using Claim = std::shared_ptr<void>;
  /// Null while another holds it.
  [[nodiscard]] Claim try_claim(core::StripeNumber number) {
    const std::lock_guard lock(mutex_);
    if (!held_.insert(number).second) {
      refused_.insert(number);
      return nullptr;
    }
    return {this, [number](StripeClaims* claims) { claims->release(number); }};
  }

 private:
  void release(core::StripeNumber number) {
    bool refused = false;
    {
      const std::lock_guard lock(mutex_);
      held_.erase(number);
      refused = refused_.erase(number) > 0;
    }
    if (refused) on_release_();
  }

  const std::function<void()> on_release_;
  std::mutex mutex_;
  std::set<core::StripeNumber> held_;
  std::set<core::StripeNumber> refused_;
};

}  // namespace ephfs::fs
