// SPDX-License-Identifier: Apache-2.0
// The data path alone: stripes over a real catalog and real files, with nodes in memory that can be down, silent, slow
// or lying, on a virtual clock. A test is one thread; nothing happens in the background until start().
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/secret.hpp"
#include "fs/stripes.hpp"
#include "meta/sqlite_catalog.hpp"
#include "node/local_peer.hpp"
#include "tests/support/memory_receipt_store.hpp"
#include "tests/support/memory_shard_store.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::fs::testing {

using ephfs::testing::Random;
using ephfs::testing::TempDir;
using ephfs::testing::VirtualClock;
using namespace std::chrono_literals;  // NOLINT: spans in tests read better as 2h

enum class Mood : std::uint8_t {
  fine,
  down,    // connections are refused
  silent,  // calls are never answered
  lying,   // fetches give other bytes
};

/// A peer over a real LocalPeer, with moods.
class MoodyPeer final : public net::Peer {
 public:
  template <class T>
  using Answer = core::awaitable<Result<T>>;

  MoodyPeer(core::Clock& clock, node::LocalPeer& peer) : clock_(clock), peer_(peer) {}

  Mood mood = Mood::fine;
  core::Nanoseconds delay{0};
  bool local = false;
  std::size_t fetches = 0;
  std::uint64_t fetched_bytes = 0;

  [[nodiscard]] core::NodeId id() const override { return peer_.id(); }
  [[nodiscard]] bool reachable() const override { return mood != Mood::down; }
  [[nodiscard]] bool is_local() const override { return local; }
  [[nodiscard]] Answer<core::Envelope> store(core::Envelope lease, net::ShardSource shard,
                                             net::CallLimits limits) override;
  [[nodiscard]] Answer<net::ShardRange> fetch(net::FetchRequest request, net::CallLimits limits) override;
  [[nodiscard]] Answer<core::Envelope> renew(core::Envelope lease, net::CallLimits limits) override;
  [[nodiscard]] Answer<core::Envelope> remove(core::Envelope removal, net::CallLimits limits) override;
  [[nodiscard]] Answer<net::Proof> prove(net::Challenge challenge, net::CallLimits limits) override;
  [[nodiscard]] Answer<net::NodeStatus> status(net::CallLimits limits) override;
  [[nodiscard]] Answer<std::vector<core::Envelope>> deletions(net::ShardInquiry inquiry,
                                                              net::CallLimits limits) override;
  [[nodiscard]] Answer<std::vector<net::Holding>> holdings(net::ShardInquiry inquiry, net::CallLimits limits) override;

 private:
  [[nodiscard]] core::awaitable<Result<>> arrive(net::CallLimits limits);

  core::Clock& clock_;
  node::LocalPeer& peer_;
};

/// A machine with a node on it. Its disk is in memory unless a test gives it another.
struct Machine {
  Machine(core::Clock& clock, core::asio::any_io_executor executor, node::ShardStore* other_store);
  ephfs::testing::MemoryShardStore store;
  ephfs::testing::MemoryReceiptStore receipts;
  core::Signer signer;
  node::LocalPeer node;
  MoodyPeer peer;
  [[nodiscard]] std::size_t shards() const { return store.usage().shards; }
};

class Pool final : public net::PeerDirectory {
 public:
  [[nodiscard]] std::vector<std::shared_ptr<net::Peer>> all() const override { return peers; }
  [[nodiscard]] std::shared_ptr<net::Peer> find(const core::NodeId& id) const override;
  std::vector<std::shared_ptr<net::Peer>> peers;
};

/// A file as the engine would keep it: its keys, and where its bytes are.
struct TestFile {
  InodeNumber inode;
  core::FileId id;
  core::Key key;
  Deadline deadline;
  Milliseconds ttl{0};
  core::Bytes content;
  std::vector<meta::ExtentRecord> extents;
};

class StripesVolume {
 public:
  explicit StripesVolume(std::size_t machine_count = 6, node::ShardStore* first_store = nullptr);
  ~StripesVolume();
  StripesVolume(const StripesVolume&) = delete;
  StripesVolume& operator=(const StripesVolume&) = delete;

  void add_machine(node::ShardStore* store = nullptr);
  /// Opens catalog and stripes; the catalog's invariants hold, or the test fails.
  void open();
  void start();
  /// Ends the background tasks and lets stripes and catalog go.
  void close();
  /// As if the machine had been killed now and started again: from a copy of what is on the disk.
  void crash_and_open() { open_copy(copy_disk()); }
  [[nodiscard]] std::filesystem::path copy_disk();
  void open_copy(const std::filesystem::path& copy);

  template <class T>
  T run(core::awaitable<T> call) {
    auto value = clock.run(std::move(call));
    EPHFS_CHECK(value.has_value(), "a call ends");
    return *std::move(value);
  }

  [[nodiscard]] std::unique_ptr<TestFile> make_file(Milliseconds ttl = 24h);
  /// Stages random bytes behind what the file has, commits, lets go of the pins.
  [[nodiscard]] Result<> append(TestFile& file, std::size_t bytes);
  [[nodiscard]] Result<Staged> stage(const TestFile& file, std::uint64_t offset, core::ByteView bytes);
  [[nodiscard]] Result<> commit(TestFile& file, const Staged& staged, core::ByteView bytes);
  /// Drops all extents of the file, as unlink does.
  void drop(TestFile& file);
  /// Reads [offset, offset + length) and compares; success means the right bytes.
  [[nodiscard]] Result<> check(const TestFile& file, std::uint64_t offset, std::uint64_t length,
                               bool sequential = false);
  [[nodiscard]] Result<> check_all(const TestFile& file, bool sequential = false) {
    return check(file, 0, file.content.size(), sequential);
  }
  /// The same from this disk alone.
  [[nodiscard]] Result<> check_local(const TestFile& file);
  [[nodiscard]] Result<> settle(const TestFile& file, Durability durability, Milliseconds within = 10s);
  [[nodiscard]] std::vector<StripeNumber> stripes_of(const TestFile& file) const;
  [[nodiscard]] std::size_t shards_held() const;
  [[nodiscard]] std::size_t files_in(const std::string& folder) const;
  [[nodiscard]] core::Boottime in(Milliseconds span) const { return clock.boot_now() + core::Nanoseconds(span); }

  ephfs::testing::SeededRandomness randomness;
  Random random;
  TempDir directory;
  core::asio::io_context context;
  VirtualClock clock{context};
  std::vector<std::unique_ptr<Machine>> machines;
  Pool pool;
  EngineOptions options;
  core::asio::any_io_executor unhurried;  // none: everything runs on `context`
  core::Signer owner;
  /// When set before open(): what stands between the stripes and the real catalog.
  std::function<std::unique_ptr<meta::Catalog>(std::unique_ptr<meta::Catalog>)> wrap_catalog;
  std::unique_ptr<meta::Catalog> catalog;
  std::unique_ptr<Stripes> stripes;
  std::vector<std::string> log;

 private:
  bool started_ = false;
  std::uint64_t next_inode_ = 2;
  int crashes_ = 0;
};

}  // namespace ephfs::fs::testing
