// SPDX-License-Identifier: Apache-2.0
// The catalog's connections beside the writer: a few readers that are lent out, and the thread that moves
// committed pages from the log into the file so that a commit never has to. Private to meta/.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "meta/disk_reserve.hpp"
#include "meta/sqlite_db.hpp"

namespace ephfs::meta {

/// At most kReadersMax connections, opened when first needed; who finds none free waits. Thread-safe.
class SqliteReaders {
 public:
  explicit SqliteReaders(std::filesystem::path path) : path_(std::move(path)) {}

  /// A connection of one's own until it is destroyed.
  class Loan {
   public:
    Loan(SqliteReaders& readers, std::unique_ptr<SqliteConnection> connection)
        : readers_(&readers), connection_(std::move(connection)) {}
    ~Loan() {
      if (connection_) readers_->give_back(std::move(connection_));
    }
    Loan(Loan&&) noexcept = default;
    Loan& operator=(Loan&&) = delete;
    [[nodiscard]] SqliteConnection& operator*() const { return *connection_; }

   private:
    SqliteReaders* readers_;
    std::unique_ptr<SqliteConnection> connection_;
  };
  [[nodiscard]] Result<Loan> borrow();

 private:
  void give_back(std::unique_ptr<SqliteConnection> connection);

  static constexpr std::size_t kReadersMax = 8;
  const std::filesystem::path path_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<SqliteConnection>> free_;  // the last one used first: its pages are warm
  std::size_t made_ = 0;
};

/// Copies the log into the catalog file in a thread of its own, after every kPagesBetween pages of it, and
/// then fills the reserve if it has been used. Idle otherwise.
class SqliteCheckpointer {
 public:
  /// `writer_mutex` is held by whoever writes: the thread takes it for a moment when the log has grown long,
  /// since a log that is always being added to is never at an end from which it could start over.
  SqliteCheckpointer(std::unique_ptr<SqliteConnection> connection, std::mutex& writer_mutex, DiskReserve& reserve);
  ~SqliteCheckpointer();
  SqliteCheckpointer(const SqliteCheckpointer&) = delete;
  SqliteCheckpointer& operator=(const SqliteCheckpointer&) = delete;

  /// After a commit: how many pages the log holds. Any thread.
  void log_grew(int pages);
  /// Copies what can be copied without waiting for anybody. Whether it went through; a failure is left for the next
  /// time. Any thread.
  bool checkpoint();
  /// Waits for the checkpoint under way, and holds the next one off. The writer's mutex is held.
  [[nodiscard]] std::unique_lock<std::mutex> pause() { return std::unique_lock(connection_mutex_); }

 private:
  void work();

  static constexpr int kPagesBetween = 1000;
  static constexpr int kPagesLong = 8000;
  std::mutex connection_mutex_;                   // taken after the writer's
  std::unique_ptr<SqliteConnection> connection_;  // under connection_mutex_
  std::mutex& writer_mutex_;
  DiskReserve& reserve_;
  std::mutex mutex_;
  std::condition_variable grew_;
  int pages_ = 0;               // under mutex_
  int due_at_ = kPagesBetween;  // under mutex_
  bool stopping_ = false;       // under mutex_
  std::thread thread_;
};

}  // namespace ephfs::meta
