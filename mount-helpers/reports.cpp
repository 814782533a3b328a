// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/reports.hpp"

#include <boost/json.hpp>
#include <charconv>

#include "mount-helpers/clock_report.hpp"
#include "mount-helpers/metrics.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::seconds kProbePatience{2};

json::object describe_node(node::Node& node) {
  const auto usage = node.store().usage();
  const auto counters = node.local().counters();
  json::object out;
  out["node"] = node.id().hex();
  out["address"] = node.address();
  out["capacity"] = usage.capacity;
  out["used"] = usage.used;
  out["shards"] = usage.shards;
  out["sessions"] = node.session_count();
  out["stored"] = counters.stored;
  out["fetched"] = counters.fetched;
  out["removed"] = counters.removed;
  out["expired"] = counters.expired;
  out["damaged"] = counters.damaged;
  return out;
}

/// Asks every peer how it is, all at once and not for long, so that the answer is about now.
json::array describe_peers(node::Node& node, Loop& loop) {
  core::SystemClock clock;
  const auto until = clock.boot_now() + kProbePatience;
  std::vector<std::pair<net::Member, std::future<core::Result<net::NodeStatus>>>> asked;
  for (const auto& member : node.pool().members()) {
    auto peer = member.id == node.id() ? nullptr : node.peers().find(member.id);
    std::future<core::Result<net::NodeStatus>> answer;
    if (peer) {
      auto ask = [](std::shared_ptr<net::Peer> who, core::Boottime end) -> core::awaitable<core::Result<net::NodeStatus>> {
        const net::CallLimits limits{end, {}};
        co_return co_await who->status(limits);
      };
      answer = loop.start(ask(std::move(peer), until));
    }
    asked.emplace_back(member, std::move(answer));
  }
  json::array peers;
  for (auto& [member, answer] : asked) {
    json::object out;
    out["node"] = member.id.hex();
    out["address"] = member.address;
    out["self"] = member.id == node.id();
    if (answer.valid()) {
      const auto status = answer.get();
      out["reachable"] = status.has_value();
      if (status) {
        out["capacity"] = status->capacity;
        out["used"] = status->used;
        out["shards"] = status->shards;
      } else {
        out["error"] = status.error().message();
      }
    }
    peers.push_back(std::move(out));
  }
  return peers;
}

/// ?inode=NUMBER of a living file, ?file=HEX of a dead one.
node::ControlResponse give_proof(const fs::Engine& engine, const node::ControlRequest& request) {
  const auto proof = [&]() -> core::Result<std::string> {
    constexpr std::string_view kInode = "inode=";
    constexpr std::string_view kFile = "file=";
    if (request.query.starts_with(kFile)) {
      const auto file = core::FileId::from_hex(request.query.substr(kFile.size()));
      if (file) return engine.proof_of_dead(*file);
    } else if (request.query.starts_with(kInode)) {
      const auto digits = request.query.substr(kInode.size());
      std::uint64_t number = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
      if (error == std::errc{} && end == digits.data() + digits.size()) return engine.proof(core::InodeNumber{number});
    }
    return core::fail(core::Error::invalid_argument, "a proof of inode=NUMBER or file=HEX");
  }();
  if (proof) return {200, "application/json", *proof};
  const bool is_missing = proof.error().code == core::Error::not_found || proof.error().code == core::Error::gone;
  return {is_missing ? 404U : 409U, "text/plain", proof.error().message() + "\n"};
}

node::ControlHandler peers_handler(node::Node& node, Loop& loop) {
  return [&node, &loop](const node::ControlRequest&) {
    node::ControlResponse response;
    response.body = json::serialize(describe_peers(node, loop));
    return response;
  };
}

/// /status, /metrics and /profile of whoever `describe` describes.
void add_measuring_handlers(node::ControlHandlers& handlers, const std::function<json::object()>& describe) {
  handlers["/status"] = [describe](const node::ControlRequest&) {
    node::ControlResponse response;
    response.body = json::serialize(describe());
    return response;
  };
  handlers["/metrics"] = [describe](const node::ControlRequest&) {
    node::ControlResponse response;
    response.content_type = "text/plain; version=0.0.4";
    response.body = metrics_text(describe(), core::read_profile());
    return response;
  };
  handlers["/profile"] = profile_handler();
}

}  // namespace

node::ControlHandlers volume_handlers(const fs::Engine& engine, node::Node& node, core::GuardedClock& clock, Loop& loop) {
  node::ControlHandlers handlers;
  const auto describe = [&engine, &node, &clock] {
    auto status = json::parse(engine.status_json()).as_object();
    status["embedded_node"] = describe_node(node);
    add_clock(clock, status);
    return status;
  };
  add_measuring_handlers(handlers, describe);
  handlers["/peers"] = peers_handler(node, loop);
  add_clock_handlers(clock, node, loop, handlers);
  handlers["/proof"] = [&engine](const node::ControlRequest& request) { return give_proof(engine, request); };
  return handlers;
}

node::ControlHandlers node_handlers(node::Node& node, core::GuardedClock& clock, Loop& loop) {
  node::ControlHandlers handlers;
  add_measuring_handlers(handlers, [&node, &clock] {
    auto status = describe_node(node);
    add_clock(clock, status);
    return status;
  });
  handlers["/peers"] = peers_handler(node, loop);
  add_clock_handlers(clock, node, loop, handlers);
  return handlers;
}

}  // namespace ephfs::cli
