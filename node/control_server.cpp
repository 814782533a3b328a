// SPDX-License-Identifier: Apache-2.0
// The only file that sees Boost.Beast.
#include "node/control_server.hpp"

#include <algorithm>
#include <array>
#include <list>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/log.hpp"

namespace ephfs::node {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using core::Error;
using core::fail;
using Local = asio::local::stream_protocol;
using Stream = beast::basic_stream<Local, asio::any_io_executor>;
using boost::system::error_code;

constexpr std::chrono::seconds kSilenceMax{5};
constexpr std::chrono::seconds kHeartbeat{15};
constexpr const char* kEventsTarget = "/events";
constexpr std::size_t kAnswerBytesMax = 64U << 20U;

/// Codes that speak of the connection to the server are not among them: who asks would take the server's for his own.
struct CodeStatus {
  Error code;
  http::status status;
};
constexpr std::array kStatuses{
    CodeStatus{Error::invalid_argument, http::status::bad_request},
    CodeStatus{Error::not_permitted, http::status::forbidden},
    CodeStatus{Error::not_found, http::status::not_found},
    CodeStatus{Error::gone, http::status::gone},
    CodeStatus{Error::busy, http::status::conflict},
    CodeStatus{Error::file_too_large, http::status::payload_too_large},
    CodeStatus{Error::not_supported, http::status::not_implemented},
    CodeStatus{Error::no_space, http::status::insufficient_storage},
};

/// The failure that failure_response() made an answer of.
core::Failure failure_in(http::status status, std::string_view body) {
  std::string said(body.substr(0, body.find('\n')));
  const auto* row = std::ranges::find(kStatuses, status, &CodeStatus::status);
  if (row == kStatuses.end()) return fail(Error::io, std::move(said));
  const std::string_view words = core::to_string(row->code);
  if (said == words) return fail(row->code);
  if (said.ends_with(": " + std::string(words))) said.resize(said.size() - words.size() - 2);
  return fail(row->code, std::move(said));
}

core::Failure failure_of(const error_code& error, const std::filesystem::path& path) {
  if (error == beast::error::timeout) return fail(Error::timed_out, path.string());
  if (error == asio::error::connection_refused || error == boost::system::errc::no_such_file_or_directory) {
    return fail(Error::unreachable, path.string());
  }
  if (error == boost::system::errc::permission_denied) return fail(Error::access_denied, path.string());
  return fail(Error::io, path.string() + ": " + error.message());
}

}  // namespace

ControlResponse failure_response(const core::Failure& failure) {
  const auto* row = std::ranges::find(kStatuses, failure.code, &CodeStatus::code);
  const auto status = row == kStatuses.end() ? http::status::internal_server_error : row->status;
  return {static_cast<unsigned>(status), "text/plain", failure.message() + "\n"};
}

struct ControlServer::State {
  asio::any_io_executor executor;
  std::filesystem::path path;
  ControlHandlers handlers;
  EventHub* events = nullptr;
  ControlActions actions;
  std::unique_ptr<Local::acceptor> acceptor;
  std::list<Stream> connections;
  bool stopping = false;
  core::TaskGroup tasks;

  [[nodiscard]] awaitable<void> accept();
  [[nodiscard]] awaitable<void> serve(std::list<Stream>::iterator connection);
  [[nodiscard]] awaitable<void> stream_events(Stream& connection);
  [[nodiscard]] awaitable<http::response<http::string_body>> answer(http::request<http::string_body> request);
};

ControlServer::ControlServer(asio::any_io_executor executor, std::filesystem::path path, ControlHandlers handlers,
                             EventHub* events, ControlActions actions)
    : state_(std::make_unique<State>()) {
  state_->executor = std::move(executor);
  state_->path = std::move(path);
  state_->handlers = std::move(handlers);
  state_->events = events;
  state_->actions = std::move(actions);
}

ControlServer::~ControlServer() = default;

Result<> check_socket_path(const std::filesystem::path& path) {
  if (path.native().size() < sizeof(sockaddr_un::sun_path)) return {};
  return fail(Error::invalid_argument, path.string() + " is too long for a socket's path");
}

Result<> ControlServer::start() {
  const auto& path = state_->path;
  EPHFS_TRY_VOID(check_socket_path(path));
  const Local::endpoint endpoint(path.string());
  error_code error;
  {
    asio::io_context local;
    Local::socket probe(local);
    probe.connect(endpoint, error);
    if (!error) return fail(Error::busy, path.string() + " is served by another process");
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return core::fail_errno("unlink " + path.string());

  auto acceptor = std::make_unique<Local::acceptor>(state_->executor);
  acceptor->open(endpoint.protocol(), error);
  // The mode is set between bind and listen: before that nobody can connect.
  if (!error) acceptor->bind(endpoint, error);
  if (!error && ::chmod(path.c_str(), 0600) != 0) error.assign(errno, boost::system::system_category());
  if (!error) acceptor->listen(static_cast<int>(kControlConnectionsMax), error);
  if (error) return core::fail_errno("listen on " + path.string(), error.value());
  state_->acceptor = std::move(acceptor);
  state_->tasks.spawn(state_->executor, [state = state_.get()] { return state->accept(); });
  return {};
}

awaitable<void> ControlServer::stop() {
  auto* state = state_.get();
  if (!state->acceptor) co_return;
  // Sockets are touched on their executor only.
  auto job = [](State* closing) -> awaitable<void> {
    closing->stopping = true;
    error_code ignored;
    closing->acceptor->close(ignored);
    for (auto& connection : closing->connections) connection.close();
    if (closing->events != nullptr) closing->events->wake_all();
    co_return;
  };
  auto closing = job(state);
  co_await asio::co_spawn(state->executor, std::move(closing), asio::use_awaitable);
  co_await state->tasks.join();
  state->acceptor.reset();
  ::unlink(state->path.c_str());
}

awaitable<void> ControlServer::State::accept() {
  while (!stopping) {
    error_code error;
    Local::socket socket = co_await acceptor->async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (stopping) break;
    if (error) {
      // Out of descriptors, most likely: asking again at once would spin.
      core::log_line(path.string() + ": " + error.message());
      asio::steady_timer pause(executor, std::chrono::seconds{1});
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    if (connections.size() >= kControlConnectionsMax) continue;  // closes it
    const auto connection = connections.emplace(connections.end(), std::move(socket));
    tasks.spawn(executor, [this, connection] { return serve(connection); });
  }
}

awaitable<void> ControlServer::State::serve(std::list<Stream>::iterator connection) {
  beast::flat_buffer buffer(kControlRequestBytesMax);
  for (bool keep_alive = true; keep_alive && !stopping;) {
    http::request_parser<http::string_body> parser;
    parser.header_limit(static_cast<std::uint32_t>(kControlRequestBytesMax));
    parser.body_limit(kControlRequestBytesMax);
    connection->expires_after(kSilenceMax);
    error_code error;
    co_await http::async_read(*connection, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
    if (error || stopping) break;
    if (events != nullptr && parser.get().method() == http::verb::get && parser.get().target() == kEventsTarget) {
      co_await stream_events(*connection);
      break;
    }
    auto response = co_await answer(parser.release());
    keep_alive = response.keep_alive();
    connection->expires_after(kSilenceMax);
    co_await http::async_write(*connection, response, asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
  }
  connections.erase(connection);
}

/// Writes events as they come, until the listener is gone or the server stops. A slow listener loses events, and is
/// told.
awaitable<void> ControlServer::State::stream_events(Stream& connection) {
  auto timer = std::make_shared<asio::steady_timer>(executor);
  std::function<void()> wake = [timer, on = executor] { asio::post(on, [timer] { timer->cancel(); }); };
  const auto listener = events->listen(std::move(wake));
  std::string text = listener ? "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
                              : "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
  for (;;) {
    error_code error;
    connection.expires_after(kSilenceMax);
    co_await asio::async_write(connection, asio::buffer(text), asio::redirect_error(asio::use_awaitable, error));
    if (error || stopping || !listener) break;
    text.clear();
    for (const auto& line : events->take(*listener)) text += line + "\n";
    if (!text.empty()) continue;
    connection.expires_never();
    timer->expires_after(kHeartbeat);
    co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (stopping) break;
    for (const auto& line : events->take(*listener)) text += line + "\n";
    if (text.empty()) text = "\n";
  }
}

awaitable<http::response<http::string_body>> ControlServer::State::answer(http::request<http::string_body> request) {
  const std::string_view target(request.target().data(), request.target().size());
  const std::size_t mark = target.find('?');
  ControlRequest asked;
  asked.path = target.substr(0, mark);
  if (mark != std::string_view::npos) asked.query = target.substr(mark + 1);

  ControlResponse given;
  const bool gets = request.method() == http::verb::get;
  const bool posts = request.method() == http::verb::post;
  const std::string posted = "POST " + std::string(asked.path);
  const auto handler = gets ? handlers.find(asked.path) : posts ? handlers.find(posted) : handlers.end();
  const auto action = actions.find(asked.path);
  const bool known = handlers.contains(asked.path) || handlers.contains(posted) || action != actions.end();
  if (posts && action != actions.end()) {
    given = co_await action->second(std::move(request.body()));
  } else if (handler == handlers.end() && (known || !(gets || posts))) {
    given = {405, "text/plain", std::string(asked.path) + ": not with this method\n"};
  } else if (handler == handlers.end()) {
    given = failure_response(fail(Error::not_found, std::string(asked.path)));
  } else {
    given = handler->second(asked);
  }
  http::response<http::string_body> response(static_cast<http::status>(given.status), request.version());
  response.set(http::field::content_type, given.content_type);
  response.keep_alive(request.keep_alive());
  response.body() = std::move(given.body);
  response.prepare_payload();
  co_return response;
}

namespace {

struct Question {
  std::filesystem::path path;
  std::string target;
  http::verb method = http::verb::get;
  std::string body;
  std::chrono::seconds patience = kSilenceMax;
};

awaitable<Result<std::string>> ask(Question question) {
  const auto& [path, target, method, body, patience] = question;
  Stream stream(co_await asio::this_coro::executor);
  stream.expires_after(patience);
  error_code error;
  const Local::endpoint endpoint(path.string());
  co_await stream.async_connect(endpoint, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return failure_of(error, path);

  http::request<http::string_body> request(method, target, 11);
  request.set(http::field::host, "localhost");
  request.keep_alive(false);
  request.body() = body;
  request.prepare_payload();
  co_await http::async_write(stream, request, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return failure_of(error, path);

  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kAnswerBytesMax);
  co_await http::async_read(stream, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return failure_of(error, path);
  auto response = parser.release();
  if (response.result() != http::status::ok) co_return failure_in(response.result(), response.body());
  co_return std::move(response.body());
}

Result<std::string> ask_and_wait(Question question) {
  const auto& path = question.path;
  EPHFS_TRY_VOID(check_socket_path(path));
  const std::string name = path.string();
  asio::io_context loop;
  std::optional<Result<std::string>> result;
  auto asking = ask(std::move(question));
  asio::co_spawn(loop, std::move(asking), [&](const std::exception_ptr& thrown, Result<std::string> answer) {
    if (!thrown) result.emplace(std::move(answer));
  });
  loop.run();
  if (!result) return fail(Error::io, name);
  return std::move(*result);
}

}  // namespace

Result<std::string> control_get(const std::filesystem::path& path, const std::string& target) {
  Question question;
  question.path = path;
  question.target = target;
  return ask_and_wait(std::move(question));
}

Result<std::string> control_post(const std::filesystem::path& path, const std::string& target, const std::string& body,
                                 std::chrono::seconds patience) {
  Question question;
  question.path = path;
  question.target = target;
  question.method = http::verb::post;
  question.body = body;
  question.patience = patience;
  return ask_and_wait(std::move(question));
}

}  // namespace ephfs::node
