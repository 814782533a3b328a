// SPDX-License-Identifier: Apache-2.0
// SQLite, wrapped: a connection that closes itself and keeps its prepared statements, a query over one of
// them, and a transaction that rolls back unless committed. Everything SQLite says no to comes out as a
// Failure that names the file and the table. A connection and what is made from it belong to one thread at a
// time. Private to meta/.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include <sqlite3.h>

#include "core/bytes.hpp"
#include "core/ids.hpp"
#include "core/result.hpp"

namespace ephfs::meta {

using core::Result;

/// A statement and the table that a failure of it is blamed on. Kept for the whole run: its address is the
/// key that a connection finds the prepared statement by.
struct Sql {
  const char* table;
  const char* text;
};

class SqliteConnection {
 public:
  /// Another program with the file open (a backup, a shell) may hold a lock for a moment.
  static constexpr int kBusyTimeoutMs = 5000;

  /// Opens an existing file. `cache_kib` bounds the pages it keeps in memory.
  [[nodiscard]] static Result<std::unique_ptr<SqliteConnection>> open(const std::filesystem::path& path, int cache_kib);
  ~SqliteConnection();
  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;

  /// Runs statements that are not worth keeping (pragmas, schema); rows are passed over.
  [[nodiscard]] Result<> execute(const char* table, const std::string& sql);
  /// The first column of the first row, as text; empty when there is no row.
  [[nodiscard]] Result<std::string> first_text(const char* table, const std::string& sql);
  /// What SQLite's code means here. `table` may be null.
  [[nodiscard]] core::Failure failure(int code, const char* table) const;

  [[nodiscard]] sqlite3* handle() const noexcept { return handle_; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  friend class SqliteQuery;
  SqliteConnection(sqlite3* handle, std::filesystem::path path) : handle_(handle), path_(std::move(path)) {}
  /// The prepared statement, made on first use; null with `code` set when SQLite refuses it.
  [[nodiscard]] sqlite3_stmt* prepared(const Sql& sql, int& code);

  sqlite3* handle_;
  std::filesystem::path path_;
  std::unordered_map<const Sql*, sqlite3_stmt*> statements_;
};

/// One run of a prepared statement: bind, then next() for each row. Failures stick and come out of next().
/// Text and blobs are bound without a copy, so they outlive the query; views of columns last until the
/// following next().
class SqliteQuery {
 public:
  SqliteQuery(SqliteConnection& connection, const Sql& sql)
      : connection_(connection), sql_(sql), statement_(connection.prepared(sql, code_)) {}
  ~SqliteQuery() {
    if (statement_ != nullptr) sqlite3_reset(statement_);
  }
  SqliteQuery(const SqliteQuery&) = delete;
  SqliteQuery& operator=(const SqliteQuery&) = delete;

  /// Binds parameters from the first on, each call behind the last.
  template <class... Values>
  SqliteQuery& bind(const Values&... values) {
    (bind_one(values), ...);
    return *this;
  }
  /// Whether there is a row.
  [[nodiscard]] Result<bool> next();
  /// For statements that give no row.
  [[nodiscard]] Result<> run();

  // Columns of the row, by number from 0. One that does not hold what it should marks the query unsound.
  [[nodiscard]] bool is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
  [[nodiscard]] std::int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  [[nodiscard]] std::uint64_t natural(int column);  // not negative
  /// An integer from 0 to `max`.
  [[nodiscard]] std::uint64_t natural_to(int column, std::uint64_t max);
  [[nodiscard]] core::ByteView blob(int column) const;
  [[nodiscard]] std::string text(int column) const { return std::string(core::as_text(blob(column))); }
  template <class Id>
  [[nodiscard]] Id id(int column) {
    const auto value = Id::from_bytes(blob(column));
    if (!value) unsound_ = true;
    return value.value_or(Id{});
  }
  void mark_unsound() { unsound_ = true; }
  /// damaged when a column read so far did not hold what it should.
  [[nodiscard]] Result<> sound() const;

 private:
  void bind_one(std::int64_t value) { note(sqlite3_bind_int64(statement_, ++bound_, value)); }
  void bind_one(std::uint64_t value);
  void bind_one(std::uint32_t value) { bind_one(std::int64_t{value}); }
  void bind_one(bool value) { bind_one(std::int64_t{value}); }
  void bind_one(core::ByteView value);
  void bind_one(const core::Bytes& value) { bind_one(core::ByteView(value)); }
  void bind_one(const std::string& value) { bind_one(core::as_bytes(value)); }
  template <class Tag, std::size_t Size>
  void bind_one(const core::FixedId<Tag, Size>& id) {
    bind_one(id.view());
  }
  template <class Tag, class Integer>
  void bind_one(core::Numbered<Tag, Integer> number) {
    bind_one(number.value);
  }
  template <class T>
  void bind_one(const std::optional<T>& value) {
    if (value) {
      bind_one(*value);
    } else {
      note(sqlite3_bind_null(statement_, ++bound_));
    }
  }
  void note(int code) {
    if (code_ == SQLITE_OK) code_ = code;
  }

  SqliteConnection& connection_;
  const Sql& sql_;
  int code_ = SQLITE_OK;
  int bound_ = 0;
  bool unsound_ = false;
  sqlite3_stmt* statement_;  // last: made with code_ in place
};

/// A transaction that rolls back when it goes out of scope uncommitted.
class SqliteTransaction {
 public:
  explicit SqliteTransaction(SqliteConnection& connection) : connection_(connection) {}
  ~SqliteTransaction();
  SqliteTransaction(const SqliteTransaction&) = delete;
  SqliteTransaction& operator=(const SqliteTransaction&) = delete;

  /// A snapshot for several reads.
  [[nodiscard]] Result<> begin_reading();
  [[nodiscard]] Result<> begin_writing();
  [[nodiscard]] Result<> commit();

 private:
  SqliteConnection& connection_;
  bool begun_ = false;
};

}  // namespace ephfs::meta
