// SPDX-License-Identifier: Apache-2.0
// An engine over a real catalog, with nodes in memory and a clock of its own. Nothing runs in the background
// until start(); a volume that was not started may be let go of without stop(), as kill -9 would.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/secret.hpp"
#include "fs/engine.hpp"
#include "meta/journaled_catalog.hpp"
#include "meta/sqlite_catalog.hpp"
#include "node/local_peer.hpp"
#include "tests/support/fake_epoch_keys.hpp"
#include "tests/support/memory_receipt_store.hpp"
#include "tests/support/memory_shard_store.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::fs::testing {

using ephfs::testing::Random;
using ephfs::testing::VirtualClock;
using namespace std::chrono_literals;  // NOLINT: spans in tests read better as 2h

constexpr auto kTtl = "user.ephfs.ttl";
constexpr auto kExpires = "user.ephfs.expires";
constexpr auto kMode = "user.ephfs.ttl_mode";

/// The errno a failed call gives, 0 for one that went well.
template <class T>
int errno_of(const Result<T>& result) {
  return result ? 0 : core::to_errno(result.error().code);
}

/// Inodes in memory, as the status tells it.
inline std::size_t objects_of(Engine& engine) {
  const std::string status = engine.status_json();
  const std::string key = R"("inodes_in_memory":)";
  return std::stoul(status.substr(status.find(key) + key.size()));
}

// chmod and truncate.
inline SetAttributes with_mode(std::uint32_t mode) {
  SetAttributes set;
  set.mode = mode;
  return set;
}
inline SetAttributes with_size(std::uint64_t size) {
  SetAttributes set;
  set.size = size;
  return set;
}

/// A kernel that remembers what it was told.
class KernelLog final : public KernelCache {
 public:
  void watch(InodeNumber number, const PageWatch& watch) override { watched[number] = watch; }
  void hurry() override { ++hurries; }
  void pages_read(InodeNumber number) override { read.push_back(number); }
  void unwatch(InodeNumber number) override { watched.erase(number); }
  void forget_entry(InodeNumber parent, std::string name) override { entries.emplace_back(parent, std::move(name)); }
  void forget_pages(InodeNumber number) override { pages.push_back(number); }
  void clock_changed() override { ++clock_changes; }

  std::map<InodeNumber, PageWatch> watched;
  std::vector<std::pair<InodeNumber, std::string>> entries;
  std::vector<InodeNumber> pages, read;
  int clock_changes = 0, hurries = 0;
};

/// A node in memory, to which the engine speaks directly.
struct TestNode {
  TestNode(core::Clock& clock, core::asio::any_io_executor executor)
      : store(std::uint64_t{64} << 30U),
        signer(core::random_key()),
        shares(node::ShareStore::open(directory.path(), clock.now()).value()),
        peer(store, receipts, clock, signer, std::move(executor), shares.get()) {}
  ephfs::testing::MemoryShardStore store;
  ephfs::testing::MemoryReceiptStore receipts;
  core::Signer signer;
  ephfs::testing::TempDir directory;
  std::unique_ptr<node::ShareStore> shares;
  node::LocalPeer peer;
};

class TestPeers final : public net::PeerDirectory {
 public:
  [[nodiscard]] std::vector<std::shared_ptr<net::Peer>> all() const override { return peers; }
  [[nodiscard]] std::shared_ptr<net::Peer> find(const core::NodeId& id) const override {
    for (const auto& peer : peers) {
      if (peer->id() == id) return peer;
    }
    return nullptr;
  }
  std::vector<std::shared_ptr<net::Peer>> peers;
};

/// One volume on one machine. Set `options` before open().
class TestVolume {
 public:
  explicit TestVolume(std::size_t node_count = 1);
  ~TestVolume();
  TestVolume(const TestVolume&) = delete;
  TestVolume& operator=(const TestVolume&) = delete;

  /// Opens the engine. Every invariant of the catalog holds, or the test fails.
  void open();
  void start();
  /// Stops it when it was started, and lets it go.
  void close();
  void reopen() {
    close();
    open();
  }
  [[nodiscard]] Engine& engine() { return *engine_; }

  /// Runs a call to its end, in virtual time.
  template <class T>
  T run(core::awaitable<T> call) {
    auto value = clock.run(std::move(call));
    EPHFS_CHECK(value.has_value(), "a call of the engine ends");
    return *std::move(value);
  }
  /// Makes a file with content, closed.
  Attributes write_file(InodeNumber parent, const std::string& name, const std::string& content);
  /// All of a file; its failure's errno as text when it cannot be read.
  [[nodiscard]] std::string read_file(InodeNumber number);
  [[nodiscard]] Result<std::string> xattr(InodeNumber number, const std::string& name);
  [[nodiscard]] Result<> set_xattr(InodeNumber number, const std::string& name, const std::string& value,
                                   XattrMode mode = XattrMode::any);
  [[nodiscard]] Result<std::vector<std::string>> list(InodeNumber directory);
  /// The deadline of a file, as its xattr tells it.
  [[nodiscard]] core::Instant expires(InodeNumber number);

  ephfs::testing::TempDir directory;
  core::asio::io_context context;
  VirtualClock clock{context};
  core::VolumeKeys keys;
  std::vector<std::unique_ptr<TestNode>> nodes;
  TestPeers peers;
  EngineOptions options;
  KernelLog kernel;
  std::vector<std::string> log;
  std::function<void(const DyingFile&)> on_warning;  // set before open()

 private:
  std::unique_ptr<Engine> engine_;
  bool started_ = false;
};

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() { volume.open(); }

  TestVolume volume;
  static constexpr InodeNumber kRoot = core::kRootInode;
  static constexpr Caller kUser{1000, 100};
};

}  // namespace ephfs::fs::testing
