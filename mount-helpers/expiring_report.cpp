// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/expiring_report.hpp"

#include <charconv>

#include <boost/json.hpp>

#include "mount-helpers/words.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::Error;
using core::fail;
using core::Result;

constexpr std::uint64_t kPageMax = 1000;

/// A number in a query; none when it is not there or is none.
std::optional<std::uint64_t> number_in(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view field = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const std::size_t equals = field.find('=');
    if (equals == std::string_view::npos || field.substr(0, equals) != name) continue;
    const std::string_view digits = field.substr(equals + 1);
    std::uint64_t value = 0;
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (error != std::errc{} || stop != digits.data() + digits.size() || value > kMax) return std::nullopt;
    return value;
  }
  return std::nullopt;
}

json::object describe(const fs::DyingFile& file) {
  json::object out;
  put_name(out, "path", file.path);
  out["mode"] = file.mode;
  out["bytes"] = file.size;
  out["expires_ms"] = file.deadline.raw();
  return out;
}

node::ControlResponse answer(const fs::Engine& engine, std::string_view query) {
  const auto until = number_in(query, "until");
  if (!until) return node::failure_response(fail(Error::invalid_argument, "expected until=MILLISECONDS"));
  auto after = meta::ExpiringRecord::before({0});
  if (const auto deadline = number_in(query, "deadline")) {
    after.deadline = core::Deadline::from_raw(static_cast<std::int64_t>(*deadline));
    after.size = number_in(query, "size").value_or(0);
    after.inode = {number_in(query, "inode").value_or(0)};
  }
  const std::size_t limit = std::clamp<std::uint64_t>(number_in(query, "limit").value_or(kPageMax), 1, kPageMax);
  const auto page = engine.expiring(after, {static_cast<std::int64_t>(*until)}, limit);
  if (!page) return node::failure_response(page.error());
  json::array files;
  for (const auto& file : page->files) files.push_back(describe(file));
  json::object out;
  out["files"] = std::move(files);
  out["next"] = nullptr;
  if (page->next) {
    out["next"] = json::object{
        {"deadline", page->next->deadline.raw()}, {"size", page->next->size}, {"inode", page->next->inode.value}};
  }
  return {200, "application/json", json::serialize(out)};
}

}  // namespace

node::ControlHandler expiring_handler(const fs::Engine& engine) {
  return [&engine](const node::ControlRequest& request) { return answer(engine, request.query); };
}

Result<> for_each_expiring(const std::filesystem::path& socket, core::Instant until, std::size_t page_size,
                           const std::function<bool(const ExpiringFile&)>& take) {
  const std::string first = "/expiring?until=" + std::to_string(until.ms) + "&limit=" + std::to_string(page_size);
  std::string target = first;
  for (;;) {
    EPHFS_TRY(const auto text, node::control_get(socket, target));
    boost::system::error_code error;
    const json::value page = json::parse(text, error);
    const auto malformed = fail(Error::protocol, socket.string() + target);
    if (error || !page.is_object()) return malformed;
    const auto* files = page.as_object().if_contains("files");
    const auto* next = page.as_object().if_contains("next");
    if (files == nullptr || !files->is_array() || next == nullptr) return malformed;
    for (const auto& entry : files->as_array()) {
      if (!entry.is_object()) return malformed;
      const auto& one = entry.as_object();
      const auto number = [&](const char* key) -> std::int64_t {
        const auto* value = one.if_contains(key);
        return value != nullptr && value->is_int64() ? value->as_int64() : 0;
      };
      ExpiringFile file{name_in(one, "path"), static_cast<std::uint32_t>(number("mode")),
                        static_cast<std::uint64_t>(number("bytes")), core::Deadline::from_raw(number("expires_ms"))};
      if (!take(file)) return {};
    }
    if (next->is_null()) return {};
    if (!next->is_object()) return malformed;
    target = first;
    for (const auto& [key, value] : next->as_object()) target += "&" + std::string(key) + "=" + json::serialize(value);
  }
}

}  // namespace ephfs::cli
