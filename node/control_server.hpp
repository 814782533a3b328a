// SPDX-License-Identifier: Apache-2.0
// The control API: HTTP/1.1 on a Unix socket that only its owner may connect to. It answers requests from a table of
// handlers; whoever owns the thing a target shows writes the handler. GET shows, POST does. Bounded: 16 connections,
// 64 KiB a request, 5 s of silence. A target that no handler has is 404, a method that it does not take 405. With an
// EventHub, GET /events is a stream: one JSON object a line until either end closes, and an empty line after 15 s
// without an event.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "core/async.hpp"
#include "core/result.hpp"
#include "node/event_hub.hpp"

namespace ephfs::node {

using core::awaitable;
using core::Result;

struct ControlRequest {
  std::string_view path;   // "/status"
  std::string_view query;  // what follows '?', undecoded; empty without one
};

struct ControlResponse {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
};

/// What a failure is answered as: a status for its code, and its message. Who asks has both back from control_get().
[[nodiscard]] ControlResponse failure_response(const core::Failure& failure);

/// Runs on the server's executor and must not block for long.
using ControlHandler = std::function<ControlResponse(const ControlRequest&)>;
/// By target for GET, "POST /target" for POST.
using ControlHandlers = std::map<std::string, ControlHandler, std::less<>>;

/// Does what a POST to its target asks for with a body, on the server's executor; it may take its time by waiting.
using ControlAction = std::function<awaitable<ControlResponse>(std::string body)>;
using ControlActions = std::map<std::string, ControlAction, std::less<>>;

constexpr std::size_t kControlConnectionsMax = 16;
constexpr std::size_t kControlRequestBytesMax = 64U << 10U;

/// invalid_argument, naming it, for a path longer than a socket's may be.
[[nodiscard]] Result<> check_socket_path(const std::filesystem::path& path);

class ControlServer {
 public:
  /// `executor` runs one thing at a time (a strand, or a loop with one thread).
  /// `events` may be null: no stream; else it outlives the server.
  ControlServer(core::asio::any_io_executor executor, std::filesystem::path path, ControlHandlers handlers,
                EventHub* events = nullptr, ControlActions actions = {});
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  /// Listens, mode 0600. A socket file that nobody answers on is replaced; busy when somebody does.
  /// Errors of check_socket_path() as well.
  [[nodiscard]] Result<> start();
  /// Closes every connection and removes the socket file; resumes when no task is left: actions are waited for.
  [[nodiscard]] awaitable<void> stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Asks a control server once and returns the body of its answer. Blocks at most 5 s. unreachable when nobody listens
/// on `path`, access_denied for who may not connect, timed_out; not_found for an unknown target; what the server said
/// with failure_response() by its code where that has a status of its own, else, with the code's words, as io.
[[nodiscard]] Result<std::string> control_get(const std::filesystem::path& path, const std::string& target);
/// The same with POST; blocks as long as `patience` at most.
[[nodiscard]] Result<std::string> control_post(const std::filesystem::path& path, const std::string& target,
                                               const std::string& body = {},
                                               std::chrono::seconds patience = std::chrono::seconds{5});

}  // namespace ephfs::node
