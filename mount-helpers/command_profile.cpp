// SPDX-License-Identifier: Apache-2.0
// ephfs profile: has a daemon measure itself for a while, and shows where the time went. Ctrl-C ends it early.
#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include <boost/json.hpp>

#include "core/config.hpp"
#include "mount-helpers/control.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::Result;

constexpr unsigned kSecondsDefault = 10;

volatile std::sig_atomic_t interrupted = 0;

void wait_seconds(unsigned span) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(span);
  while (interrupted == 0 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

double number(const json::object& row, const char* key) {
  return row.at(key).to_number<double>();
}

/// A duration in three digits and a unit.
std::string span_text(double us) {
  std::array<char, 32> text;
  const char* unit = "us";
  if (us >= 1e6) {
    us /= 1e6;
    unit = "s";
  } else if (us >= 1e3) {
    us /= 1e3;
    unit = "ms";
  }
  std::snprintf(text.data(), text.size(), "%.3g %s", us, unit);
  return text.data();
}

void print_operations(const json::array& rows, double lasted) {
  if (rows.empty()) return;
  std::printf("%-16s %10s %9s %9s %9s %9s %9s %9s\n", "operation", "count", "a second", "mean", "p50", "p90", "p99",
              "max");
  for (const auto& entry : rows) {
    const auto& row = entry.as_object();
    std::printf("%-16s %10.0f %9.0f %9s %9s %9s %9s %9s\n", row.at("name").as_string().c_str(), number(row, "count"),
                number(row, "count") / lasted, span_text(number(row, "mean_us")).c_str(),
                span_text(number(row, "p50_us")).c_str(), span_text(number(row, "p90_us")).c_str(),
                span_text(number(row, "p99_us")).c_str(), span_text(number(row, "max_us")).c_str());
  }
}

/// "threads": how many threads it kept busy, waiting included.
void print_stages(const json::array& rows, double lasted) {
  if (rows.empty()) return;
  std::printf("\n%-16s %10s %9s %9s %9s %9s %9s %9s\n", "stage", "count", "MB", "MB/s", "mean", "p50", "p99",
              "threads");
  for (const auto& entry : rows) {
    const auto& row = entry.as_object();
    const double bytes = number(row, "bytes");
    const double busy = number(row, "total_us");
    std::printf("%-16s %10.0f %9.1f %9.0f %9s %9s %9s %9.3f\n", row.at("name").as_string().c_str(),
                number(row, "count"), bytes / 1e6, busy > 0 ? bytes / busy : 0,
                span_text(number(row, "mean_us")).c_str(), span_text(number(row, "p50_us")).c_str(),
                span_text(number(row, "p99_us")).c_str(), busy / 1e6 / lasted);
  }
}

constexpr std::array kProfileOptions{
    kDirOption,
    ArgumentOption{"--seconds", "N", "for how long it measures; 10"},
    kJsonOption,
};

}  // namespace

const Synopsis kProfile{"ephfs profile", "[VOLUME | MOUNTPOINT | --dir DIR] [--seconds N] [--json]",
                        "where a daemon's time goes", kProfileOptions};

Result<> run_profile(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kProfile));
  unsigned span = kSecondsDefault;
  if (parsed.has("--seconds")) {
    const std::string text = parsed.value("--seconds");
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), span);
    if (error != std::errc{} || end != text.data() + text.size() || span == 0 || span > 3600) {
      return bad_option(parsed, "--seconds", "1 to 3600");
    }
  }
  std::signal(SIGINT, [](int) { interrupted = 1; });
  EPHFS_TRY(const auto started, ask_daemon(parsed, "/profile?start=" + std::to_string(span), kProfile));
  wait_seconds(span);
  std::signal(SIGINT, SIG_DFL);
  EPHFS_TRY(const auto answer, ask_daemon(parsed, "/profile?stop", kProfile));
  if (parsed.has("--json")) {
    std::puts(answer.c_str());
    return {};
  }
  const auto profile = json::parse(answer).as_object();
  const double lasted = std::max(number(profile, "seconds"), 1e-9);
  print_operations(profile.at("operations").as_array(), lasted);
  print_stages(profile.at("stages").as_array(), lasted);
  if (profile.at("operations").as_array().empty() && profile.at("stages").as_array().empty()) {
    std::puts("nothing happened");
  }
  return {};
}

}  // namespace ephfs::cli
