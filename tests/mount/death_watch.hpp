// SPDX-License-Identifier: Apache-2.0
// Watches one way to reach a file over its deadline. Time is taken around every access, so the machine's load
// cannot make the verdict wrong: an answer is late only if its access began at the deadline or after it, a
// refusal early only if its access had ended more than kEarlyMax before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>

namespace ephfs::mount_tests {

constexpr std::size_t kPage = 4096;

/// Milliseconds of wall time.
using WallMs = std::int64_t;
[[nodiscard]] WallMs wall_now();
/// Sleeps until then.
void sleep_until(WallMs when);

/// What an access may be refused with that is no errno: the memory is not there.
constexpr int kSigbus = 1000;
/// Runs `touch`; kSigbus when it raised SIGBUS, else 0. One thread at a time.
[[nodiscard]] int guarded(const std::function<void()>& touch);

class DeathWatch {
 public:
  /// `ask` gives 0 for an answer, else the errno (or kSigbus) of its refusal.
  DeathWatch(std::string name, std::set<int> refusals, std::function<int()> ask);

  void look();
  /// Empty when it died on time; otherwise what was wrong.
  [[nodiscard]] std::string verdict(WallMs deadline) const;
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  static constexpr WallMs kEarlyMax = 20;

  std::string name_;
  std::set<int> refusals_;
  std::function<int()> ask_;
  std::optional<WallMs> last_answer_began_, first_refusal_ended_, last_refusal_began_;
  int last_refusal_ = 0;
  bool came_back_ = false;
  std::string unexpected_;
};

}  // namespace ephfs::mount_tests
