// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/clock_report.hpp"

#include <algorithm>

#include <boost/json.hpp>

#include "core/kernel_time.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/volume.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::seconds kPeersPatience{2};
constexpr std::string_view kAlone = "alone";  // the query that asks nobody else

/// What every other node of the pool answers, all asked at once.
std::vector<core::Instant> ask_peers(core::Clock& clock, node::Node& node, Loop& loop, std::size_t& asked) {
  const auto until = clock.boot_now() + kPeersPatience;
  std::vector<std::future<core::Result<net::NodeStatus>>> answers;
  for (auto& peer : node.peers().all()) {
    if (peer->is_local()) continue;
    auto ask = [](std::shared_ptr<net::Peer> who,
                  core::Boottime end) -> core::awaitable<core::Result<net::NodeStatus>> {
      const net::CallLimits limits{end, {}};
      co_return co_await who->status(limits);
    };
    answers.push_back(loop.start(ask(std::move(peer), until)));
  }
  asked = answers.size();
  std::vector<core::Instant> said;
  for (auto& answer : answers) {
    if (const auto status = answer.get()) said.push_back(status->now);
  }
  return said;
}

json::object describe_with_peers(core::GuardedClock& clock, node::Node& node, Loop& loop) {
  std::size_t asked = 0;
  auto said = ask_peers(clock, node, loop, asked);
  auto out = describe_clock(clock);
  out["peers_asked"] = asked;
  out["peers_answered"] = said.size();
  std::ranges::sort(said);
  out["peers_median"] =
      said.empty() ? json::value(nullptr) : json::value(core::format_instant(said[(said.size() - 1) / 2]));
  return out;
}

}  // namespace

json::object describe_clock(const core::GuardedClock& clock) {
  const auto report = clock.report();
  json::object out;
  out["wall"] = core::format_instant(report.wall);
  out["believed"] = core::format_instant(report.now);
  out["confirmed"] = core::format_instant(report.confirmed);
  out["held"] = report.held_since.has_value();
  out["held_since"] = report.held_since ? json::value(core::format_instant(*report.held_since)) : json::value(nullptr);
  out["behind_ms"] = report.behind.count();
  out["kernel_synchronized"] = core::synchronized_kernel_time().has_value();
  return out;
}

void add_clock(const core::GuardedClock& clock, json::object& status) {
  auto described = describe_clock(clock);
  json::array warnings;
  if (described.at("held").as_bool()) {
    warnings.emplace_back("the clock is held: the wall clock says " + std::string(described.at("wall").as_string()) +
                          ", confirmed is " + std::string(described.at("confirmed").as_string()) +
                          "; what died in between is refused but not destroyed (ephfs doctor --accept-clock)");
  }
  status["clock"] = std::move(described);
  status["warnings"] = std::move(warnings);
}

void add_clock_handlers(core::GuardedClock& clock, node::Node& node, Loop& loop, node::ControlHandlers& handlers) {
  handlers["/clock"] = [&clock, &node, &loop](const node::ControlRequest& request) {
    node::ControlResponse response;
    const bool alone = request.query == kAlone;
    response.body = json::serialize(alone ? describe_clock(clock) : describe_with_peers(clock, node, loop));
    return response;
  };
  handlers["POST /clock/accept"] = [&clock](const node::ControlRequest&) {
    if (const auto accepted = clock.accept(); !accepted) return node::failure_response(accepted.error());
    node::ControlResponse response;
    response.body = json::serialize(describe_clock(clock));
    return response;
  };
}

core::Instant time_in(const std::filesystem::path& directory) {
  const core::Instant system = core::SystemClock().now();
  const auto answer = node::control_get(control_socket(directory), "/clock?" + std::string(kAlone));
  if (!answer) return system;
  boost::system::error_code error;
  const json::value clock = json::parse(*answer, error);
  if (error || !clock.is_object()) return system;
  const json::value* believed = clock.get_object().if_contains("believed");
  if (believed == nullptr || !believed->is_string()) return system;
  const auto now = core::parse_instant(std::string_view(believed->get_string()));
  return now ? *now : system;
}

core::Instant time_on(const std::string& path) {
  auto volume = mounted_volume_of(path);
  // A link that leads nowhere is where its directory is.
  if (!volume) volume = mounted_volume_of((std::filesystem::path(path).parent_path() / ".").string());
  return volume ? time_in(volume->directory) : core::SystemClock().now();
}

}  // namespace ephfs::cli
