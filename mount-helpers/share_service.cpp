// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/share_service.hpp"

#include <algorithm>

#include <boost/json.hpp>

#include "mount-helpers/paths.hpp"
#include "mount-helpers/words.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::awaitable;
using core::Error;
using core::fail;
using core::Result;

/// Longer than any peer_timeout that somebody would wait for by hand.
constexpr std::chrono::seconds kPatience{120};

/// Everybody in the pool whom others can reach: who answers first, then this machine, then who did not answer lately.
std::vector<fs::ShareHolder> find_holders(node::Node& node) {
  struct Ranked {
    int rank;
    core::NodeId spread;  // so that not every share lies on the same nodes
    fs::ShareHolder holder;
  };
  std::vector<Ranked> ranked;
  for (const auto& member : node.pool().members()) {
    if (member.address.empty()) continue;
    auto peer = node.peers().find(member.id);
    if (!peer) continue;
    const int rank = !peer->reachable() ? 2 : peer->is_local() ? 1 : 0;
    ranked.push_back({rank, core::random_id<core::NodeId>(), {std::move(peer), member.address}});
  }
  std::ranges::sort(ranked, {}, [](const Ranked& one) { return std::tuple(one.rank, one.spread); });
  std::vector<fs::ShareHolder> holders;
  holders.reserve(ranked.size());
  for (auto& one : ranked) holders.push_back(std::move(one.holder));
  return holders;
}

std::optional<std::int64_t> number_in(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  if (value == nullptr || !value->is_int64()) return std::nullopt;
  return value->as_int64();
}

Result<fs::ShareWish> understand(const json::object& question) {
  fs::ShareWish wish;
  wish.name = name_in(question, "name");
  if (const auto ttl = number_in(question, "ttl_ms")) wish.ttl = core::Milliseconds{*ttl};
  const std::int64_t most = number_in(question, "fetches_max").value_or(0);
  if (most < 0 || most > core::kShareFetchesMax) return fail(Error::invalid_argument, "fetches_max");
  wish.fetches_max = static_cast<std::uint32_t>(most);
  return wish;
}

awaitable<Result<std::string>> answer(fs::Engine& engine, node::Node& node, dev_t device, std::string body) {
  boost::system::error_code error;
  const json::value question = json::parse(body, error);
  if (error || !question.is_object()) co_return fail(Error::invalid_argument, "not a question to share");
  const auto inode = number_in(question.as_object(), "inode");
  const auto on = number_in(question.as_object(), "device");
  if (!inode || *inode <= 0 || !on) co_return fail(Error::invalid_argument, "expected an inode and its device");
  EPHFS_CO_TRY_VOID(check_device(static_cast<std::uint64_t>(*on), device));
  EPHFS_CO_TRY(auto wish, understand(question.as_object()));
  wish.pool = node.pool().pool();
  wish.holders = find_holders(node);
  if (wish.holders.empty()) {
    co_return fail(
        Error::unreachable,
        "nobody could fetch it: no node of this volume's pool listens, and this volume's own does not either "
        "(mount with -o listen=HOST:PORT, or join a pool)");
  }
  EPHFS_CO_TRY(const auto shared, co_await engine.share({static_cast<std::uint64_t>(*inode)}, std::move(wish)));
  EPHFS_CO_TRY(const auto link, net::format_share_link(shared.link));
  json::array nodes;
  for (const auto& holder : shared.link.holders) nodes.push_back(json::string(holder.id.hex()));
  json::object out;
  out["link"] = link;
  out["expires_ms"] = shared.link.deadline.raw();
  out["ends_with_file"] = shared.ends_with_file;
  out["nodes"] = std::move(nodes);
  co_return json::serialize(out);
}

}  // namespace

node::ControlAction share_action(fs::Engine& engine, node::Node& node, dev_t device) {
  return [&engine, &node, device](std::string body) -> awaitable<node::ControlResponse> {
    auto shared = co_await answer(engine, node, device, std::move(body));
    if (!shared) co_return node::failure_response(shared.error());
    node::ControlResponse response;
    response.body = *std::move(shared);
    co_return response;
  };
}

Result<ShareAnswer> ask_to_share(const std::filesystem::path& socket, const ShareQuestion& question) {
  json::object asked;
  asked["inode"] = question.inode;
  asked["device"] = question.device;
  put_name(asked, "name", question.name);
  if (question.ttl) asked["ttl_ms"] = question.ttl->count();
  asked["fetches_max"] = question.fetches_max;
  EPHFS_TRY(const auto text, node::control_post(socket, "/share", json::serialize(asked), kPatience));
  boost::system::error_code error;
  const json::value told = json::parse(text, error);
  const auto* link = !error && told.is_object() ? told.as_object().if_contains("link") : nullptr;
  const auto expires = link != nullptr ? number_in(told.as_object(), "expires_ms") : std::nullopt;
  if (!expires || !link->is_string()) return fail(Error::protocol, socket.string() + "/share");
  ShareAnswer answer{std::string(link->as_string()), {*expires}, false, {}};
  const auto* ends = told.as_object().if_contains("ends_with_file");
  answer.ends_with_file = ends != nullptr && ends->is_bool() && ends->as_bool();
  const auto* nodes = told.as_object().if_contains("nodes");
  if (nodes != nullptr && nodes->is_array()) {
    for (const auto& node : nodes->as_array()) {
      if (node.is_string()) answer.nodes.emplace_back(node.as_string());
    }
  }
  return answer;
}

}  // namespace ephfs::cli
