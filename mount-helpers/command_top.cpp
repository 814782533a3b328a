// SPDX-License-Identifier: Apache-2.0
// ephfs top: how a volume or node fares, again and again, with what happens meanwhile below. On a terminal it is one
// screen that is drawn anew; elsewhere one line a look and one an event.
#include <array>
#include <charconv>
#include <cstdio>
#include <deque>

#include <boost/json.hpp>
#include <unistd.h>

#include "core/clock.hpp"
#include "core/config.hpp"
#include "mount-helpers/clock_report.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/control.hpp"
#include "mount-helpers/expiring_report.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/volume.hpp"
#include "mount-helpers/words.hpp"
#include "node/control_stream.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::Error;
using core::fail;
using core::Result;
using std::chrono::milliseconds;

constexpr std::size_t kDyingShown = 8;
constexpr std::size_t kEventsShown = 8;
constexpr milliseconds kIntervalMin{100};

/// What a dotted path leads to; null for nothing.
const json::value* at(const json::value& from, std::string_view path) {
  const json::value* here = &from;
  while (here != nullptr && !path.empty()) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    here = here->is_object() ? here->as_object().if_contains(path.substr(0, dot)) : nullptr;
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return here;
}

std::uint64_t number_at(const json::value& from, std::string_view path) {
  const auto* value = at(from, path);
  if (value == nullptr || !value->is_number()) return 0;
  return value->is_double() ? 0 : value->to_number<std::uint64_t>();
}

std::string text_at(const json::value& from, std::string_view path) {
  const auto* value = at(from, path);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : std::string();
}

/// What is known at one moment.
struct Look {
  std::chrono::steady_clock::time_point when;
  core::Instant now;
  json::value status;
  bool is_volume = false;
  std::vector<ExpiringFile> dying;
};

class Top {
 public:
  Top(std::filesystem::path directory, milliseconds interval, bool as_json)
      : directory_(std::move(directory)),
        interval_(interval),
        as_json_(as_json),
        is_screen_(!as_json && ::isatty(STDOUT_FILENO) == 1) {}

  Result<> run(std::uint64_t looks) {
    auto stream = node::ControlStream::open(control_socket(directory_), "/events");
    if (!stream && stream.error().code != Error::not_found) return explained(stream.error(), directory_);
    for (std::uint64_t done = 0; looks == 0 || done < looks; ++done) {
      EPHFS_TRY(auto look, take_look());
      show(look);
      last_ = std::move(look);
      if (std::fflush(stdout) != 0) return core::fail_errno("standard output");
      if (done + 1 == looks) return {};
      if (stream) {
        EPHFS_TRY_VOID(hear_events(*stream));
      } else {
        ::usleep(static_cast<useconds_t>(std::chrono::microseconds(interval_).count()));
      }
    }
    return {};
  }

 private:
  Result<Look> take_look() {
    Look look;
    const auto socket = control_socket(directory_);
    EPHFS_TRY(const auto text, ask_daemon_in(directory_, "/status"));
    boost::system::error_code error;
    look.status = json::parse(text, error);
    if (error) return fail(Error::protocol, socket.string() + "/status");
    look.when = std::chrono::steady_clock::now();
    look.now = time_in(directory_);
    look.is_volume = at(look.status, "volume") != nullptr;
    if (look.is_volume && is_screen_) {
      EPHFS_TRY_VOID(
          for_each_expiring(socket, look.now + std::chrono::hours(1), kDyingShown, [&](const ExpiringFile& file) {
            look.dying.push_back(file);
            return look.dying.size() < kDyingShown;
          }));
    }
    return look;
  }

  /// Until the next look is due.
  Result<> hear_events(node::ControlStream& stream) {
    const auto end = std::chrono::steady_clock::now() + interval_;
    for (;;) {
      const auto left = std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now());
      if (left.count() <= 0) return {};
      auto line = stream.next(left);
      if (!line) return explained(line.error(), directory_);
      if (*line) hear(**line);
    }
  }

  void hear(const std::string& line) {
    if (as_json_) {
      std::puts(line.c_str());
      return;
    }
    boost::system::error_code error;
    const json::value event = json::parse(line, error);
    if (error || !event.is_object()) return;
    const std::string words = core::format_instant(core::SystemClock().now()) + "  " + describe(event);
    if (!is_screen_) {
      std::puts(words.c_str());
      return;
    }
    events_.push_back(words);
    if (events_.size() > kEventsShown) events_.pop_front();
  }

  static std::string describe(const json::value& event) {
    const std::string kind = text_at(event, "event");
    if (kind == "warning") {
      const core::Deadline deadline =
          core::Deadline::from_raw(static_cast<std::int64_t>(number_at(event, "expires_ms")));
      return shown_name(name_in(event.as_object(), "path")) + " " +
             deadline_in_words(deadline, core::SystemClock().now());
    }
    if (kind == "log") return shown_name(text_at(event, "text"));
    if (kind == "lost") return std::to_string(number_at(event, "count")) + " events came too fast and were lost";
    return shown_name(json::serialize(event));
  }

  /// Of a counter, in a second, since the last look.
  [[nodiscard]] std::uint64_t rate(const Look& look, std::string_view path) const {
    if (!last_) return 0;
    const auto before = number_at(last_->status, path);
    const auto after = number_at(look.status, path);
    const std::chrono::duration<double> span = look.when - last_->when;
    return after <= before || span.count() <= 0 ? 0 : static_cast<std::uint64_t>(double(after - before) / span.count());
  }

  [[nodiscard]] std::string size_at(const Look& look, std::string_view path) const {
    return core::format_size(number_at(look.status, path));
  }

  void show(const Look& look) {
    if (as_json_)
      std::puts(json::serialize(look.status).c_str());
    else if (is_screen_)
      show_screen(look);
    else
      std::puts(one_line(look).c_str());
  }

  std::string one_line(const Look& look) const {
    const std::string node = look.is_volume ? "embedded_node." : "";
    std::string line = core::format_instant(look.now);
    if (look.is_volume) {
      line += "  live " + size_at(look, "live_bytes") + "  dirty " + size_at(look, "dirty_bytes") + "  staged " +
              size_at(look, "stripes.staged_bytes") + "  owed " +
              std::to_string(number_at(look.status, "stripes.shards_owed")) + "  dying 1m " +
              std::to_string(number_at(look.status, "expiring.1m.files")) + " 1h " +
              std::to_string(number_at(look.status, "expiring.1h.files")) + "  peers " + peers_in_words(look);
    } else {
      line += "  used " + size_at(look, "used") + " of " + size_at(look, "capacity") + "  shards " +
              std::to_string(number_at(look.status, "shards"));
    }
    return line + "  in " + core::format_size(rate(look, node + "bytes_in")) + "/s  out " +
           core::format_size(rate(look, node + "bytes_out")) + "/s";
  }

  static std::string peers_in_words(const Look& look) {
    const auto* peers = at(look.status, "peers");
    if (peers == nullptr || !peers->is_array()) return "0";
    std::size_t reachable = 0;
    for (const auto& peer : peers->as_array()) {
      const auto* answers = at(peer, "reachable");
      if (answers != nullptr && answers->is_bool() && answers->as_bool()) ++reachable;
    }
    return std::to_string(reachable) + " of " + std::to_string(peers->as_array().size());
  }

  void show_screen(const Look& look) const {
    std::fputs("\033[H\033[2J", stdout);
    std::printf("%s   %s\n\n", shown_name(directory_.string()).c_str(), core::format_instant(look.now).c_str());
    const std::string node = look.is_volume ? "embedded_node." : "";
    if (look.is_volume) {
      std::printf("live %s in %llu inodes   dirty %s   staged %s   cached %s   shards owed %llu\n",
                  size_at(look, "live_bytes").c_str(), count(look, "inodes"), size_at(look, "dirty_bytes").c_str(),
                  size_at(look, "stripes.staged_bytes").c_str(), size_at(look, "stripes.cached_bytes").c_str(),
                  count(look, "stripes.shards_owed"));
      for (const char* span : {"1m", "1h", "1d"}) {
        const std::string key = std::string("expiring.") + span;
        std::printf("dies in %s: %llu files, %s   ", span, count(look, key + ".files"),
                    size_at(look, key + ".bytes").c_str());
      }
      std::printf("\npeers %s answer\n", peers_in_words(look).c_str());
      const std::string error = text_at(look.status, "stripes.last_error");
      if (!error.empty()) std::printf("placing: %s\n", shown_name(error).c_str());
    }
    std::printf("node  used %s   shards %llu   in %s/s   out %s/s   stored %llu/s   fetched %llu/s   died %llu/s\n",
                size_at(look, node + "used").c_str(), count(look, node + "shards"),
                core::format_size(rate(look, node + "bytes_in")).c_str(),
                core::format_size(rate(look, node + "bytes_out")).c_str(), speed(look, node + "stored"),
                speed(look, node + "fetched"), speed(look, node + "expired"));
    if (!look.dying.empty()) std::puts("\ndying soon");
    for (const auto& file : look.dying) {
      std::printf("  %-54s %9s  %s\n", deadline_in_words(file.deadline, look.now).c_str(),
                  core::format_size(file.size).c_str(), shown_name(file.path).c_str());
    }
    if (!events_.empty()) std::puts("\nevents");
    for (const auto& event : events_) std::printf("  %s\n", event.c_str());
  }

  static unsigned long long count(const Look& look, std::string_view path) { return number_at(look.status, path); }
  [[nodiscard]] unsigned long long speed(const Look& look, std::string_view path) const { return rate(look, path); }

  const std::filesystem::path directory_;
  const milliseconds interval_;
  const bool as_json_;
  const bool is_screen_;
  std::optional<Look> last_;
  std::deque<std::string> events_;
};

constexpr std::array kTopOptions{
    kDirOption,
    kJsonOption,
    ArgumentOption{"--interval", "SPAN", "how often it looks; 2s"},
    ArgumentOption{"--count", "N", "how many times it looks; without end"},
};

}  // namespace

const Synopsis kTop{"ephfs top", "[VOLUME | MOUNTPOINT | --dir DIR] [--interval SPAN] [--count N] [--json]",
                    "the same as status, as it goes on", kTopOptions};

Result<> run_top(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kTop));
  if (parsed.words.size() > 1 || (parsed.has("--dir") && !parsed.words.empty())) {
    return usage(kTop);
  }
  const auto interval = core::parse_span(parsed.value("--interval", "2s"));
  if (!interval || *interval < kIntervalMin || *interval > std::chrono::hours(1)) {
    return bad_option(parsed, "--interval", "100ms to 1h");
  }
  std::uint64_t looks = 0;  // without end
  if (parsed.has("--count")) {
    const std::string text = parsed.value("--count");
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), looks);
    if (error != std::errc{} || end != text.data() + text.size() || looks == 0) {
      return bad_option(parsed, "--count", "a number, 1 or more");
    }
  }
  std::filesystem::path directory;
  if (parsed.has("--dir")) {
    directory = resolved(parsed.value("--dir"));
  } else {
    EPHFS_TRY(directory, find_volume(parsed.words.empty() ? "" : parsed.words[0]));
  }
  return Top(std::move(directory), *interval, parsed.has("--json")).run(looks);
}

}  // namespace ephfs::cli
