// SPDX-License-Identifier: Apache-2.0
#include "meta/sqlite_db.hpp"

#include <cerrno>
#include <limits>

#include "meta/sqlite_vfs.hpp"

namespace ephfs::meta {

using core::Error;
using core::fail;
using core::Failure;

namespace {

constexpr Sql kBeginReading{"(transaction)", "BEGIN"};
constexpr Sql kBeginWriting{"(transaction)", "BEGIN IMMEDIATE"};
constexpr Sql kCommit{"(transaction)", "COMMIT"};
constexpr Sql kRollback{"(transaction)", "ROLLBACK"};

bool ran_out_of_space(int code, int system_errno) {
  const bool by_system = system_errno == ENOSPC || system_errno == EDQUOT;
  return code == SQLITE_FULL || (((code & 0xff) == SQLITE_IOERR || code == SQLITE_CANTOPEN) && by_system);
}

Error error_of(int code, int system_errno) {
  if (ran_out_of_space(code, system_errno)) return Error::no_space;
  if (code == SQLITE_IOERR_CORRUPTFS || code == SQLITE_IOERR_SHORT_READ) return Error::damaged;
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_ERROR:  // our statements are right, so the schema is not
    case SQLITE_MISMATCH:
    case SQLITE_SCHEMA:
      return Error::damaged;
    case SQLITE_CONSTRAINT:
    case SQLITE_RANGE:
    case SQLITE_TOOBIG:
      return Error::invalid_argument;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Error::busy;
    case SQLITE_NOMEM:
      return Error::no_memory;
    case SQLITE_READONLY:
      return Error::read_only;
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return Error::access_denied;
    case SQLITE_CANTOPEN:
      return core::from_errno(system_errno);
    default:
      return Error::io;
  }
}

}  // namespace

Result<std::unique_ptr<SqliteConnection>> SqliteConnection::open(const std::filesystem::path& path, int cache_kib) {
  sqlite3* handle = nullptr;
  // One thread at a time uses a connection, so SQLite need not lock it.
  constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path.c_str(), &handle, kFlags, clean_vfs());
  if (handle == nullptr) return fail(Error::no_memory, "catalog " + path.string());
  std::unique_ptr<SqliteConnection> connection(new SqliteConnection(handle, path));
  if (code != SQLITE_OK) return connection->failure(code, nullptr);
  sqlite3_busy_timeout(handle, kBusyTimeoutMs);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  EPHFS_TRY_VOID(connection->execute(nullptr,
                                     "PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON; PRAGMA "
                                     "foreign_keys = ON; PRAGMA temp_store = MEMORY;"
                                     "PRAGMA wal_autocheckpoint = 0; PRAGMA cell_size_check = ON;"
                                     "PRAGMA max_page_count = " +
                                         std::to_string(kCatalogPagesMax) + "; PRAGMA cache_size = -" +
                                         std::to_string(cache_kib)));
  return connection;
}

SqliteConnection::~SqliteConnection() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(handle_);
}

Result<> SqliteConnection::execute(const char* table, const std::string& sql) {
  const int code = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return failure(code, table);
  return {};
}

Result<std::string> SqliteConnection::first_text(const char* table, const std::string& sql) {
  const Sql once{table, sql.c_str()};
  std::string text;
  core::Result<bool> row = false;
  {
    SqliteQuery query(*this, once);
    row = query.next();
    if (row && *row) text = query.text(0);
  }
  if (const auto found = statements_.find(&once); found != statements_.end()) {
    sqlite3_finalize(found->second);
    statements_.erase(found);
  }
  if (!row) return row.error();
  return text;
}

Failure SqliteConnection::failure(int code, const char* table) const {
  std::string detail = "catalog " + path_.string();
  if (table != nullptr) detail += std::string(": table ") + table;
  detail += std::string(": ") + sqlite3_errmsg(handle_) + " (SQLite " + std::to_string(code) + ")";
  return fail(error_of(code, sqlite3_system_errno(handle_)), std::move(detail));
}

sqlite3_stmt* SqliteConnection::prepared(const Sql& sql, int& code) {
  sqlite3_stmt*& statement = statements_[&sql];
  if (statement == nullptr) {
    code = sqlite3_prepare_v3(handle_, sql.text, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  }
  return statement;
}

Result<bool> SqliteQuery::next() {
  if (code_ == SQLITE_OK) {
    const int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    code_ = code;
  }
  if (code_ == SQLITE_RANGE) {
    return fail(Error::invalid_argument,
                "catalog " + connection_.path().string() + ": table " + sql_.table + ": a number past 2^63 - 1");
  }
  return connection_.failure(code_, sql_.table);
}

Result<> SqliteQuery::run() {
  EPHFS_TRY(const bool row, next());
  EPHFS_CHECK(!row, "a statement that is run gives no row");
  return {};
}

std::uint64_t SqliteQuery::natural(int column) {
  return natural_to(column, static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
}

std::uint64_t SqliteQuery::natural_to(int column, std::uint64_t max) {
  const std::int64_t value = integer(column);
  if (value < 0 || static_cast<std::uint64_t>(value) > max) {
    unsound_ = true;
    return 0;
  }
  return static_cast<std::uint64_t>(value);
}

core::ByteView SqliteQuery::blob(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);  // before its size, as SQLite asks
  const int size = sqlite3_column_bytes(statement_, column);
  return {static_cast<const std::byte*>(bytes), bytes == nullptr ? 0 : static_cast<std::size_t>(size)};
}

Result<> SqliteQuery::sound() const {
  if (!unsound_) return {};
  return fail(Error::damaged,
              "catalog " + connection_.path().string() + ": table " + sql_.table + ": a record holds what none can");
}

void SqliteQuery::bind_one(std::uint64_t value) {
  if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    note(SQLITE_RANGE);
    ++bound_;
    return;
  }
  bind_one(static_cast<std::int64_t>(value));
}

void SqliteQuery::bind_one(core::ByteView value) {
  ++bound_;
  // A null pointer would bind NULL, not an empty blob.
  note(value.empty() ? sqlite3_bind_zeroblob(statement_, bound_, 0)
                     : sqlite3_bind_blob64(statement_, bound_, value.data(), value.size(), SQLITE_STATIC));
}

SqliteTransaction::~SqliteTransaction() {
  // A full disk or a damaged page may have rolled it back already.
  if (begun_ && sqlite3_get_autocommit(connection_.handle()) == 0) {
    SqliteQuery rollback(connection_, kRollback);
    (void)rollback.next();  // can only fail where there is nothing left to undo
  }
}

Result<> SqliteTransaction::begin_reading() {
  EPHFS_TRY_VOID(SqliteQuery(connection_, kBeginReading).run());
  begun_ = true;
  return {};
}

Result<> SqliteTransaction::begin_writing() {
  EPHFS_TRY_VOID(SqliteQuery(connection_, kBeginWriting).run());
  begun_ = true;
  return {};
}

Result<> SqliteTransaction::commit() {
  EPHFS_TRY_VOID(SqliteQuery(connection_, kCommit).run());
  begun_ = false;
  return {};
}

}  // namespace ephfs::meta
