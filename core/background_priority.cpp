// SPDX-License-Identifier: Apache-2.0
#include "core/background_priority.hpp"

#include <array>
#include <charconv>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "core/idle_policy.hpp"

namespace ephfs::core {

BackgroundPriority::BackgroundPriority(Limits limits, const std::filesystem::path& statistics) : limits_(limits) {
  auto opened = open_file(statistics, O_RDONLY);
  if (!opened || !may_leave_idle()) return;
  statistics_ = *std::move(opened);
  const auto waited = waited_ns();
  if (!waited) return;
  waited_ns_ = *waited;
  is_idle_ = set_idle(true);
}

void BackgroundPriority::look() {
  if (!is_idle_) {
    if (turns_ == 0 || --turns_ > 0) return;
    is_idle_ = set_idle(true);
    waited_ns_ = waited_ns().value_or(waited_ns_);
    return;
  }
  const auto waited = waited_ns();
  const bool too_long = !waited || *waited - waited_ns_ > limits_.wait_max.count();
  waited_ns_ = waited.value_or(waited_ns_);
  if (!too_long || !set_idle(false)) return;
  is_idle_ = false;
  turns_ = limits_.turns;
}

std::optional<std::int64_t> BackgroundPriority::waited_ns() const {
  // Time on a processor, time in its queue, and how often it was given one: proc_pid_schedstat(5).
  std::array<char, 96> room{};
  const ssize_t got = ::pread(statistics_.get(), room.data(), room.size(), 0);
  if (got <= 0) return std::nullopt;
  const std::string_view text(room.data(), static_cast<std::size_t>(got));
  const auto at = text.find(' ');
  std::int64_t waited = 0;
  if (at == std::string_view::npos) return std::nullopt;
  if (std::from_chars(text.data() + at + 1, text.data() + text.size(), waited).ec != std::errc{}) return std::nullopt;
  return waited;
}

}  // namespace ephfs::core
