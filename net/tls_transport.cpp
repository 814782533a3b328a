// SPDX-License-Identifier: Apache-2.0
#include "net/tls_transport.hpp"

#include <atomic>
#include <list>
#include <mutex>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/strand.hpp>

#include "core/config.hpp"
#include "net/tls_channel.hpp"
#include "net/tls_identity.hpp"

namespace ephfs::net {
namespace {

using asio::ip::tcp;
using core::Boottime;
using core::Error;
using core::fail;
using ErrorCode = boost::system::error_code;

constexpr core::Nanoseconds kHandshakeMax = std::chrono::seconds(10);
constexpr core::Nanoseconds kAcceptPause = std::chrono::milliseconds(100);
constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);

// What transport, listener and connections share.
struct Shared {
  asio::any_io_executor executor;
  core::Clock& clock;
  std::shared_ptr<asio::ssl::context> context;
  RateLimitedLog log;
};

/// Accepts by callbacks, not coroutines: nothing has to be joined when it closes.
class Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(std::shared_ptr<Shared> shared, tcp::acceptor acceptor)
      : shared_(std::move(shared)), strand_(acceptor.get_executor()), acceptor_(std::move(acceptor)) {}

  void accept_next() {
    if (closed_) return;
    auto use = [self = shared_from_this()](ErrorCode error, tcp::socket socket) {
      self->take(error, std::move(socket));
    };
    acceptor_.async_accept(asio::make_strand(shared_->executor), asio::bind_executor(strand_, std::move(use)));
  }

  [[nodiscard]] awaitable<Result<std::unique_ptr<Channel>>> next() {
    const auto self = shared_from_this();
    if (closed_) co_return fail(Error::unreachable, "the listener is closed");
    auto channel = co_await ready_.receive();
    if (channel) --ready_count_;
    co_return channel;
  }

  void close() {
    if (closed_.exchange(true)) return;
    ready_.post(fail(Error::unreachable, "the listener is closed"));
    asio::post(strand_, [self = shared_from_this()] {
      ErrorCode ignored;
      self->acceptor_.close(ignored);
      self->retry_.reset();
      const std::lock_guard lock(self->mutex_);
      for (const auto& connection : self->half_open_) shut(connection);
    });
  }

 private:
  using Connection = std::shared_ptr<TlsConnection>;

  static void shut(const Connection& connection) {
    asio::post(connection->strand, [connection] { connection->shut(); });
  }

  void take(ErrorCode error, tcp::socket socket) {
    if (closed_) return;
    if (error) {
      // Out of descriptors, mostly: those who wait are still there after a pause.
      shared_->log.say("accepting a connection failed: " + error.message());
      retry_ = shared_->clock.call_at(strand_, shared_->clock.boot_now() + kAcceptPause,
                                      [self = shared_from_this()] { self->accept_next(); });
      return;
    }
    const auto connection = std::make_shared<TlsConnection>(std::move(socket), shared_->context);
    connection->prepare();
    {
      const std::lock_guard lock(mutex_);
      // An honest handshake takes milliseconds: whoever has been at it longest gives way.
      if (half_open_.size() >= kHalfOpenMax) shut(half_open_.front());
      half_open_.push_back(connection);
    }
    asio::post(connection->strand, [self = shared_from_this(), connection] { self->shake_hands(connection); });
    accept_next();
  }

  // On the connection's strand, as the two below.
  void shake_hands(const Connection& connection) {
    std::shared_ptr<core::Timer> timer = shared_->clock.call_at(
        connection->strand, shared_->clock.boot_now() + kHandshakeMax, [connection] { connection->shut(); });
    auto done = [self = shared_from_this(), connection, timer](ErrorCode error) {
      timer->cancel();
      self->finish(connection, error);
    };
    connection->shake_hands(TlsConnection::Role::server, std::move(done));
  }

  void finish(const Connection& connection, ErrorCode error) {
    {
      const std::lock_guard lock(mutex_);
      half_open_.remove(connection);
    }
    if (closed_ || connection->closed) {
      connection->shut();
      return;
    }
    if (error) {
      shared_->log.say("closed a connection from " + connection->peer_address +
                       " that does not speak the protocol: " + error.message());
      connection->shut();
      return;
    }
    auto channel = make_tls_channel(connection);
    if (!channel || ready_count_ >= kAcceptQueueMax) {
      connection->shut();
      return;
    }
    ++ready_count_;
    ready_.post(std::move(channel));
  }

  const std::shared_ptr<Shared> shared_;
  const asio::any_io_executor strand_;
  tcp::acceptor acceptor_;              // on the strand
  std::shared_ptr<core::Timer> retry_;  // on the strand
  std::atomic<bool> closed_{false};
  std::atomic<std::size_t> ready_count_{0};
  const core::Mailbox<Result<std::unique_ptr<Channel>>> ready_;
  std::mutex mutex_;
  std::list<Connection> half_open_;  // guarded by mutex_; oldest first
};

class TlsListener final : public Listener {
 public:
  TlsListener(std::shared_ptr<Acceptor> acceptor, std::string address)
      : acceptor_(std::move(acceptor)), address_(std::move(address)) {}
  ~TlsListener() override { acceptor_->close(); }
  TlsListener(const TlsListener&) = delete;
  TlsListener& operator=(const TlsListener&) = delete;

  [[nodiscard]] std::string address() const override { return address_; }
  [[nodiscard]] awaitable<Result<std::unique_ptr<Channel>>> accept() override { return acceptor_->next(); }
  void close() override { acceptor_->close(); }

 private:
  const std::shared_ptr<Acceptor> acceptor_;
  const std::string address_;
};

using Endpoints = std::vector<tcp::endpoint>;

std::optional<tcp::endpoint> numeric_endpoint(const core::HostPort& where) {
  ErrorCode error;
  const auto address = asio::ip::make_address(where.host, error);
  if (error) return std::nullopt;
  return tcp::endpoint(address, where.port);
}

Endpoints endpoints_of(const tcp::resolver::results_type& results) {
  Endpoints endpoints;
  for (const auto& entry : results) endpoints.push_back(entry.endpoint());
  return endpoints;
}

// Names are looked up on a thread of Asio's own, which may take longer than the caller waits.
awaitable<Result<Endpoints>> resolve(std::shared_ptr<Shared> shared, core::HostPort where, Boottime until) {
  if (const auto endpoint = numeric_endpoint(where)) co_return Endpoints{*endpoint};
  const core::Mailbox<Result<Endpoints>> answer;
  const auto resolver = std::make_shared<tcp::resolver>(shared->executor);
  resolver->async_resolve(where.host, std::to_string(where.port), tcp::resolver::numeric_service,
                          [answer, resolver, host = where.host](ErrorCode error, tcp::resolver::results_type results) {
                            if (error) {
                              answer.post(fail(Error::unreachable, "looking up " + host + ": " + error.message()));
                            } else {
                              answer.post(endpoints_of(results));
                            }
                          });
  auto endpoints = co_await answer.receive_until(shared->clock, until);
  if (!endpoints) co_return fail(Error::timed_out, "looking up " + where.host);
  co_return std::move(*endpoints);
}

// On the connection's strand.
awaitable<Result<std::unique_ptr<Channel>>> connect_on_strand(std::shared_ptr<Shared> shared,
                                                              std::shared_ptr<TlsConnection> connection,
                                                              Endpoints endpoints, core::NodeId expected,
                                                              Boottime until) {
  const std::string where = connection->peer_address;
  const auto late = std::make_shared<bool>(false);
  std::function<void()> give_up = [connection, late] {
    *late = true;
    connection->shut();
  };
  const auto timer = shared->clock.call_at(connection->strand, until, std::move(give_up));
  const auto [refused, endpoint] = co_await asio::async_connect(connection->socket, endpoints, kAsTuple);
  if (*late) co_return fail(Error::timed_out, "connecting to " + where);
  if (refused) co_return fail(Error::unreachable, "connecting to " + where + ": " + refused.message());
  connection->prepare();
  ErrorCode failed;
  const auto start = [&connection, &failed](std::function<void()> resume) {
    connection->shake_hands(TlsConnection::Role::client, [&failed, resume = std::move(resume)](ErrorCode error) {
      failed = error;
      resume();
    });
  };
  co_await core::suspend(start);
  if (*late) co_return fail(Error::timed_out, "the handshake with " + where);
  if (failed) {
    connection->shut();
    co_return fail(Error::unreachable, "the handshake with " + where + ": " + failed.message());
  }
  auto channel = make_tls_channel(connection);
  if (channel && (*channel)->peer_id() != expected) {
    (*channel)->close();
    co_return fail(Error::not_permitted, where + " is node " + (*channel)->peer_id().hex() + ", not " + expected.hex());
  }
  co_return channel;
}

class TlsTransport final : public Transport {
 public:
  explicit TlsTransport(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  [[nodiscard]] awaitable<Result<std::unique_ptr<Channel>>> connect(std::string address, core::NodeId expected,
                                                                    Boottime until) override {
    const auto shared = shared_;
    until = std::min(until, shared->clock.boot_now() + kHandshakeMax);
    EPHFS_CO_TRY(auto where, core::parse_address(address));
    EPHFS_CO_TRY(auto endpoints, co_await resolve(shared, std::move(where), until));
    auto connection =
        std::make_shared<TlsConnection>(tcp::socket(asio::make_strand(shared->executor)), shared->context);
    connection->peer_address = std::move(address);
    auto connecting = connect_on_strand(shared, connection, std::move(endpoints), expected, until);
    co_return co_await asio::co_spawn(connection->strand, std::move(connecting), asio::use_awaitable);
  }

  [[nodiscard]] Result<std::unique_ptr<Listener>> listen(const std::string& address) override {
    EPHFS_TRY(const auto where, core::parse_address(address, true));
    auto endpoint = numeric_endpoint(where);
    ErrorCode error;
    if (!endpoint) {
      tcp::resolver resolver(shared_->executor);
      const auto found = resolver.resolve(where.host, std::to_string(where.port), tcp::resolver::passive, error);
      if (error || found.empty()) return fail(Error::invalid_argument, "no address of this machine: " + where.host);
      endpoint = found.begin()->endpoint();
    }
    tcp::acceptor acceptor(asio::make_strand(shared_->executor));
    acceptor.open(endpoint->protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(*endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error == asio::error::address_in_use) return fail(Error::busy, "the address " + address + " is taken");
    if (error) return fail(core::from_errno(error.value()), "listening on " + address + ": " + error.message());
    // The name as it was given, since that is what others may know this machine by.
    const std::string host = where.host.find(':') == std::string::npos ? where.host : "[" + where.host + "]";
    std::string listening = host + ":" + std::to_string(acceptor.local_endpoint(error).port());
    auto accepting = std::make_shared<Acceptor>(shared_, std::move(acceptor));
    accepting->accept_next();
    return std::unique_ptr<Listener>(std::make_unique<TlsListener>(std::move(accepting), std::move(listening)));
  }

 private:
  const std::shared_ptr<Shared> shared_;
};

}  // namespace

std::unique_ptr<Transport> make_tls_transport(core::asio::any_io_executor executor, core::Clock& clock,
                                              const core::SigningSeed& node_seed, LogLine log) {
  std::shared_ptr<Shared> shared(
      new Shared{std::move(executor), clock, make_tls_context(node_seed), RateLimitedLog(clock, std::move(log))});
  return std::make_unique<TlsTransport>(std::move(shared));
}

}  // namespace ephfs::net
