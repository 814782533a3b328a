// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/reports.hpp"

#include <charconv>
#include <limits>

#include <boost/json.hpp>

#include "mount-helpers/clock_report.hpp"
#include "mount-helpers/expiring_report.hpp"
#include "mount-helpers/metrics.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/words.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::seconds kProbePatience{2};
constexpr std::chrono::seconds kAuditPatience{3};

/// Null where there is no bound but the disk.
json::value capacity_of(std::uint64_t bytes) {
  return bytes == node::kUnlimitedCapacity ? json::value() : json::value(bytes);
}

json::object describe_node(node::Node& node) {
  const auto usage = node.store().usage();
  const auto counters = node.local().counters();
  json::object out;
  out["node"] = node.id().hex();
  out["address"] = node.address();
  out["capacity"] = capacity_of(usage.capacity);
  out["used"] = usage.used;
  out["shards"] = usage.shards;
  out["sessions"] = node.session_count();
  out["stored"] = counters.stored;
  out["fetched"] = counters.fetched;
  out["removed"] = counters.removed;
  out["expired"] = counters.expired;
  out["damaged"] = counters.damaged;
  out["bytes_in"] = counters.bytes_in;
  out["bytes_out"] = counters.bytes_out;
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
      auto ask = [](std::shared_ptr<net::Peer> who,
                    core::Boottime end) -> core::awaitable<core::Result<net::NodeStatus>> {
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
        out["capacity"] = capacity_of(status->capacity);
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

/// The value of `key` in "a=1&b=2"; empty when it is not there.
std::string_view value_in(std::string_view query, std::string_view key) {
  while (!query.empty()) {
    const auto pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(pair.size() + 1, query.size()));
    const auto equals = pair.find('=');
    if (equals != std::string_view::npos && pair.substr(0, equals) == key) return pair.substr(equals + 1);
  }
  return {};
}

std::optional<std::uint64_t> number_in(std::string_view query, std::string_view key) {
  const auto digits = value_in(query, key);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

core::StripeNumber stripe_of(std::uint64_t number) {
  constexpr auto kLast = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  return {static_cast<std::int64_t>(std::min(number, kLast))};
}

node::ControlResponse answer_of(core::Result<std::string> result) {
  if (!result) return node::failure_response(result.error());
  return {200, "application/json", *std::move(result)};
}

/// A page of an audit is answered within what the one who asks waits.
net::CallLimits audit_limits(const fs::Engine& engine) {
  const core::Milliseconds patience = std::min<core::Milliseconds>(engine.options().peer_timeout, kAuditPatience);
  return {engine.clock().boot_now() + patience, {}};
}

/// The file that inode_query() names; invalid_argument when it is on another device than the volume.
core::Result<core::InodeNumber> asked_inode(std::string_view query, dev_t volume) {
  const auto inode = number_in(query, "inode");
  const auto device = number_in(query, "device");
  if (!inode || !device) return core::fail(core::Error::invalid_argument, "expected inode=NUMBER&device=NUMBER");
  EPHFS_TRY_VOID(check_device(*device, volume));
  return core::InodeNumber{*inode};
}

/// inode_query() of a living file, ?file=HEX of a dead one.
node::ControlResponse give_proof(const fs::Engine& engine, dev_t device, const node::ControlRequest& request) {
  if (const auto file = core::FileId::from_hex(value_in(request.query, "file"))) {
    return answer_of(engine.proof_of_dead(*file));
  }
  const auto number = asked_inode(request.query, device);
  return answer_of(number ? engine.proof(*number) : number.error());
}

node::ControlResponse verify_page(fs::Engine& engine, Loop& loop, dev_t device, const node::ControlRequest& request) {
  const auto number = asked_inode(request.query, device);
  if (!number) return answer_of(number.error());
  const auto after = number_in(request.query, "after");
  if (!after) return answer_of(core::fail(core::Error::invalid_argument, "expected after=STRIPE"));
  return answer_of(loop.start(engine.verify(*number, stripe_of(*after), audit_limits(engine))).get());
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

node::ControlHandlers volume_handlers(fs::Engine& engine, node::Node& node, core::GuardedClock& clock, Loop& loop,
                                      dev_t device) {
  node::ControlHandlers handlers;
  const auto describe = [&engine, &node, &clock] {
    auto status = json::parse(engine.status_json()).as_object();
    status["embedded_node"] = describe_node(node);
    add_clock(clock, status);
    return status;
  };
  add_measuring_handlers(handlers, describe);
  handlers["/peers"] = peers_handler(node, loop);
  handlers["/expiring"] = expiring_handler(engine);
  add_clock_handlers(clock, node, loop, handlers);
  handlers["/proof"] = [&engine, device](const node::ControlRequest& request) {
    return give_proof(engine, device, request);
  };
  handlers["/audit"] = [&engine, &loop](const node::ControlRequest& request) {
    const auto after = number_in(request.query, "after");
    if (!after) return answer_of(core::fail(core::Error::invalid_argument, "/audit?after=STRIPE[&all=1]"));
    const bool all = number_in(request.query, "all") == std::uint64_t{1};
    return answer_of(loop.start(engine.audit(stripe_of(*after), all, audit_limits(engine))).get());
  };
  handlers["/verify"] = [&engine, &loop, device](const node::ControlRequest& request) {
    return verify_page(engine, loop, device, request);
  };
  handlers["/audit_ttl"] = [&engine, &loop](const node::ControlRequest& request) {
    if (request.query.empty()) return answer_of(engine.audit_ttl());
    const auto asked = core::NodeId::from_hex(value_in(request.query, "node"));
    if (!asked) return answer_of(core::fail(core::Error::invalid_argument, "/audit_ttl?node=HEX"));
    return answer_of(loop.start(engine.audit_ttl(*asked, audit_limits(engine))).get());
  };
  return handlers;
}

std::string inode_query(const struct stat& status) {
  return "inode=" + std::to_string(status.st_ino) + "&device=" + std::to_string(status.st_dev);
}

std::string warning_event(const fs::DyingFile& file) {
  json::object event;
  event["event"] = "warning";
  put_name(event, "path", file.path);
  event["bytes"] = file.size;
  event["expires_ms"] = file.deadline.raw();
  event["expires"] = core::format_instant(file.deadline.instant());
  return json::serialize(event);
}

std::string log_event(const std::string& line) {
  return json::serialize(json::object{{"event", "log"}, {"text", shown_name(line)}});
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
