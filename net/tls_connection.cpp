// SPDX-License-Identifier: Apache-2.0
#include "net/tls_connection.hpp"

#include <algorithm>
#include <cerrno>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ssl/error.hpp>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include "core/check.hpp"

namespace ephfs::net {
namespace {

using core::Error;
using core::fail;

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kRecordBytes = SSL3_RT_MAX_PLAIN_LENGTH;
/// Of what is large, so much is waited for at once.
constexpr std::size_t kGatheredBytes = 128U << 10U;

}  // namespace

/// What OpenSSL reads and writes a connection's socket by. Its own kind for sockets would raise SIGPIPE, and knows
/// nothing of more that follows.
struct TlsConnection::Bio {
  static int read(BIO* bio, char* out, int size) {
    BIO_clear_retry_flags(bio);
    TlsConnection& connection = of(bio);
    if (connection.drained_) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const auto got = ::recv(connection.socket.native_handle(), out, static_cast<std::size_t>(size), 0);
    connection.drained_ = got != 0 && got < size;
    if (got < 0 && is_passing(errno)) BIO_set_retry_read(bio);
    return static_cast<int>(got);
  }
  static int write(BIO* bio, const char* bytes, int size) {
    BIO_clear_retry_flags(bio);
    TlsConnection& connection = of(bio);
    const int flags = MSG_NOSIGNAL | (connection.more_follows_ ? MSG_MORE : 0);
    const auto sent = ::send(connection.socket.native_handle(), bytes, static_cast<std::size_t>(size), flags);
    if (sent < 0 && is_passing(errno)) BIO_set_retry_write(bio);
    return static_cast<int>(sent);
  }
  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

  static BIO* make(TlsConnection& connection) {
    static const BIO_METHOD* const method = [] {
      BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
      EPHFS_CHECK(made != nullptr, "OpenSSL has memory for a kind of BIO");
      BIO_meth_set_read(made, read);
      BIO_meth_set_write(made, write);
      BIO_meth_set_ctrl(made, control);
      return made;
    }();
    BIO* const bio = BIO_new(method);
    EPHFS_CHECK(bio != nullptr, "OpenSSL has memory for a BIO");
    BIO_set_data(bio, &connection);
    BIO_set_init(bio, 1);
    return bio;
  }

 private:
  static TlsConnection& of(BIO* bio) { return *static_cast<TlsConnection*>(BIO_get_data(bio)); }
  static bool is_passing(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }
};

TlsConnection::TlsConnection(asio::ip::tcp::socket connection_socket, std::shared_ptr<asio::ssl::context> tls_context)
    : strand(connection_socket.get_executor()),
      socket(std::move(connection_socket)),
      context_(std::move(tls_context)),
      ssl_(SSL_new(context_->native_handle())) {
  EPHFS_CHECK(ssl_, "OpenSSL has memory for a connection");
  BIO* const bio = Bio::make(*this);
  SSL_set_bio(ssl_.get(), bio, bio);
}

TlsConnection::~TlsConnection() = default;

void TlsConnection::prepare() {
  ErrorCode error;
  // Should one of these fail, the connection is slower to answer or to be found dead, and still good.
  socket.set_option(asio::ip::tcp::no_delay(true), error);
  socket.set_option(asio::socket_base::keep_alive(true), error);
  const auto endpoint = socket.remote_endpoint(error);
  peer_address = error ? std::string("somebody who is gone") : format_endpoint(endpoint);
  if (!error && endpoint.address() == socket.local_endpoint(error).address()) leave_pacing_out();
  socket.native_non_blocking(true, error);
  if (error) shut();
}

/// Between two processes of one machine there is no network to be careful with: a congestion control that spreads what
/// is sent over time (BBR, where it is the machine's default) costs a timer for each piece. Reno, which every kernel
/// has and lets everybody use, does not.
void TlsConnection::leave_pacing_out() {
  constexpr std::string_view kUnpaced = "reno";
  // Should it fail, sending takes longer.
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_CONGESTION, kUnpaced.data(), kUnpaced.size());
}

/// Has OpenSSL do something: `operation` as its functions say, above 0 when it is done.
template <class Operation>
TlsConnection::Step TlsConnection::take_step(Operation operation, ErrorCode& error) {
  if (closed) {
    error = asio::error::operation_aborted;
    return Step::failed;
  }
  // What an earlier failure left on this thread would be taken for this one's. To clear it takes far longer than to look.
  if (ERR_peek_error() != 0) ERR_clear_error();
  errno = 0;
  const int result = operation();
  if (result > 0) return Step::done;
  const int system_error = errno;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return Step::wants_read;
    case SSL_ERROR_WANT_WRITE:
      return Step::wants_write;
    case SSL_ERROR_SSL:
      error.assign(static_cast<int>(ERR_get_error()), asio::error::get_ssl_category());
      return Step::failed;
    default:
      break;
  }
  error = asio::error::eof;
  if (system_error != 0) error.assign(system_error, boost::system::system_category());
  return Step::failed;
}

asio::socket_base::wait_type TlsConnection::awaited(Step step) {
  if (step == Step::wants_read) drained_ = false;  // what comes until then ends the waiting at once
  return step == Step::wants_read ? asio::socket_base::wait_read : asio::socket_base::wait_write;
}

void TlsConnection::shake_hands(Role role, std::function<void(ErrorCode)> done) {
  if (role == Role::client) {
    SSL_set_connect_state(ssl_.get());
  } else {
    SSL_set_accept_state(ssl_.get());
  }
  step_handshake(std::move(done));
}

void TlsConnection::step_handshake(std::function<void(ErrorCode)> done) {
  ErrorCode error;
  const Step step = take_step([this] { return SSL_do_handshake(ssl_.get()); }, error);
  if (step == Step::done || step == Step::failed) {
    done(error);
    return;
  }
  socket.async_wait(awaited(step), [self = shared_from_this(), done = std::move(done)](ErrorCode failed) {
    if (failed) {
      done(failed);
    } else {
      self->step_handshake(done);
    }
  });
}

std::size_t TlsConnection::take_ahead(core::MutableByteView out) {
  const std::size_t count = std::min(out.size(), ahead_end_ - ahead_begin_);
  std::copy_n(ahead_.data() + ahead_begin_, count, out.data());
  ahead_begin_ += count;
  return count;
}

/// Before `bytes` are waited for: has the kernel wake nobody for a little of what is large. OpenSSL may have a part of
/// a record already, so that the socket has as much less to come.
void TlsConnection::gather(std::size_t bytes) {
  const std::size_t sure = bytes - std::min(bytes, kRecordBytes);
  const int low_water = sure < kRecordBytes ? 1 : static_cast<int>(std::min(sure, kGatheredBytes));
  if (low_water == std::exchange(low_water_, low_water)) return;
  // Should it fail, the kernel wakes more often.
  ::setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVLOWAT, &low_water, sizeof(low_water));
}

/// After a step that is not done: waits for what it takes to go on, or ends the connection.
awaitable<Result<>> TlsConnection::pass(Step step, ErrorCode error) {
  if (step != Step::failed) std::tie(error) = co_await socket.async_wait(awaited(step), kAsTuple);
  if (!error) co_return Result<>();
  auto failure = broken(error);
  shut();
  co_return failure;
}

awaitable<Result<>> TlsConnection::read(core::MutableByteView out) {
  const auto self = shared_from_this();
  if (closed) co_return broken({});
  out = out.subspan(take_ahead(out));
  while (!out.empty()) {
    // Large things go straight to where they belong; of small ones, all that came together is taken at once.
    const bool directly = out.size() >= kRecordBytes;
    if (!directly && ahead_.empty()) ahead_ = core::Buffer(kRecordBytes);
    const core::MutableByteView room = directly ? out : ahead_.view();
    std::size_t count = 0;
    ErrorCode error;
    const Step step = take_step([&] { return SSL_read_ex(ssl_.get(), room.data(), room.size(), &count); }, error);
    if (step == Step::done) {
      if (!directly) {
        ahead_begin_ = 0;
        ahead_end_ = count;
        count = take_ahead(out);
      }
      out = out.subspan(count);
      continue;
    }
    if (step == Step::wants_read) gather(out.size());
    EPHFS_CO_TRY_VOID(co_await pass(step, error));
  }
  co_return Result<>();
}

awaitable<Result<>> TlsConnection::write(core::ByteView bytes, bool more_follows) {
  const auto self = shared_from_this();
  if (closed) co_return broken({});
  while (!bytes.empty()) {
    const core::ByteView record = bytes.first(std::min(bytes.size(), kRecordBytes));
    more_follows_ = more_follows || record.size() < bytes.size();
    std::size_t count = 0;
    ErrorCode error;
    const Step step = take_step([&] { return SSL_write_ex(ssl_.get(), record.data(), record.size(), &count); }, error);
    if (step == Step::done) {
      bytes = bytes.subspan(count);
      continue;
    }
    EPHFS_CO_TRY_VOID(co_await pass(step, error));
  }
  co_return Result<>();
}

void TlsConnection::shut() {
  closed = true;
  ErrorCode ignored;
  // The other end hears of it even while operations of ours still hold the socket.
  socket.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  socket.close(ignored);
}

core::Failure TlsConnection::broken(const ErrorCode& error) const {
  if (closed) return fail(Error::unreachable, "the connection to " + peer_address + " is closed");
  return fail(Error::unreachable, "the connection to " + peer_address + ": " + error.message());
}

std::string format_endpoint(const asio::ip::tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  const std::string port = std::to_string(endpoint.port());
  return endpoint.address().is_v6() ? "[" + host + "]:" + port : host + ":" + port;
}

}  // namespace ephfs::net
