// SPDX-License-Identifier: Apache-2.0
#include "meta/sqlite_pool.hpp"

namespace ephfs::meta {

namespace {

constexpr int kReaderCacheKib = 2048;

}  // namespace

Result<SqliteReaders::Loan> SqliteReaders::borrow() {
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [this] { return !free_.empty() || made_ < kReadersMax; });
  if (!free_.empty()) {
    auto connection = std::move(free_.back());
    free_.pop_back();
    return Loan(*this, std::move(connection));
  }
  ++made_;
  lock.unlock();
  auto connection = SqliteConnection::open(path_, kReaderCacheKib);
  Result<> ready;
  if (connection) ready = (*connection)->execute(nullptr, "PRAGMA query_only = ON");
  if (!connection || !ready) {
    lock.lock();
    --made_;
    returned_.notify_one();
    if (!connection) return std::move(connection).error();
    return std::move(ready).error();
  }
  return Loan(*this, *std::move(connection));
}

void SqliteReaders::give_back(std::unique_ptr<SqliteConnection> connection) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(connection));
  }
  returned_.notify_one();
}

SqliteCheckpointer::SqliteCheckpointer(std::unique_ptr<SqliteConnection> connection, std::mutex& writer_mutex,
                                       DiskReserve& reserve)
    : connection_(std::move(connection)), writer_mutex_(writer_mutex), reserve_(reserve), thread_([this] { work(); }) {}

SqliteCheckpointer::~SqliteCheckpointer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  grew_.notify_one();
  thread_.join();
}

void SqliteCheckpointer::log_grew(int pages) {
  bool due = false;
  {
    const std::lock_guard lock(mutex_);
    if (pages < pages_) due_at_ = kPagesBetween;  // the log started over
    pages_ = pages;
    due = pages_ >= due_at_;
  }
  if (due) grew_.notify_one();
}

void SqliteCheckpointer::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    grew_.wait(lock, [this] { return stopping_ || pages_ >= due_at_; });
    if (stopping_) return;
    const bool is_long = pages_ >= kPagesLong;
    due_at_ = pages_ + kPagesBetween;
    lock.unlock();
    bool done = checkpoint();
    if (is_long) {
      const std::lock_guard writers_wait(writer_mutex_);
      done = checkpoint();  // only what was added meanwhile
    }
    if (done) reserve_.fill();
    lock.lock();
  }
}

bool SqliteCheckpointer::checkpoint() {
  const std::lock_guard lock(connection_mutex_);
  // Passive: waits for nobody. What fails (a full disk, a damaged page) stays in the log, where reads find
  // it; the writer meets the same trouble and reports it.
  return sqlite3_wal_checkpoint_v2(connection_->handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr) ==
         SQLITE_OK;
}

}  // namespace ephfs::meta
