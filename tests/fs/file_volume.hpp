// SPDX-License-Identifier: Apache-2.0
// An engine whose stripes and catalog fail on demand, for what becomes of files' bytes then; or, given nodes,
// the same over real stripes.
#pragma once

#include <memory>
#include <string>

#include <fcntl.h>

#include "tests/fs/engine_fixture.hpp"
#include "tests/fs/fake_stripes.hpp"
#include "tests/fs/faulty_catalog.hpp"

namespace ephfs::fs::testing {

using File = std::shared_ptr<OpenFile>;

class FileVolume {
 public:
  /// Without nodes, stripes are FakeStripes over `disk`.
  explicit FileVolume(std::size_t node_count = 0) {
    options.directory = directory.path();
    for (std::size_t i = 0; i < node_count; ++i) {
      nodes.push_back(std::make_unique<TestNode>(clock, io.get_executor()));
      peers.peers.emplace_back(std::shared_ptr<net::Peer>(), &nodes.back()->peer);
    }
  }
  ~FileVolume() {
    // Nothing fails on the way out.
    fail_commit = nullptr;
    disk->fail_stage = nullptr;
    disk->room = ~std::uint64_t{0};
    close();
    for (auto& node : nodes) clock.run(node->peer.stop());
    clock.settle();
  }
  FileVolume(const FileVolume&) = delete;
  FileVolume& operator=(const FileVolume&) = delete;

  void open() {
    auto real = meta::open_sqlite_catalog(directory / "catalog");
    ASSERT_TRUE(real) << real.error();
    const auto broken = (*real)->check();
    ASSERT_TRUE(broken) << broken.error();
    EXPECT_TRUE(broken->empty()) << ::testing::PrintToString(*broken);
    auto wrapped = std::make_unique<FaultyCatalog>(*std::move(real), [this] { return fail_commit && fail_commit(); });
    catalog = wrapped.get();
    auto fake_keys = std::make_unique<ephfs::testing::FakeEpochKeys>(keys.master);
    epoch_keys = fake_keys.get();
    Engine::Context context{options,
                            std::move(wrapped),
                            keys,
                            std::move(fake_keys),
                            peers,
                            clock,
                            io.get_executor(),
                            [this](std::string line) { log.push_back(std::move(line)); },
                            nodes.empty() ? std::make_unique<FakeStripes>(disk, clock) : nullptr};
    auto opened = Engine::open(std::move(context));
    ASSERT_TRUE(opened) << opened.error();
    engine_ = *std::move(opened);
  }
  void start() {
    engine_->start(&kernel);
    started_ = true;
  }
  [[nodiscard]] bool is_started() const { return started_; }
  void close() {
    if (started_) (void)run(engine_->stop());
    started_ = false;
    engine_.reset();
  }
  /// Lets go of a volume that was not started, as kill -9 would, and mounts it again.
  void crash() {
    EPHFS_CHECK(!started_, "what runs in the background cannot be torn away");
    engine_.reset();
    open();
  }
  [[nodiscard]] Engine& engine() { return *engine_; }

  template <class T>
  T run(core::awaitable<T> call) {
    auto value = clock.run(std::move(call));
    EPHFS_CHECK(value.has_value(), "a call of the engine ends");
    return *std::move(value);
  }

  File create(const std::string& name, int flags = O_RDWR) {
    auto created = engine_->create(core::kRootInode, name, S_IFREG | 0644, flags, {});
    EPHFS_CHECK(created, "a file is made");
    return created->second;
  }
  File open_file(InodeNumber number, int flags = O_RDWR) {
    auto opened = engine_->open_file(number, flags);
    EPHFS_CHECK(opened, "a file is opened");
    return *opened;
  }
  /// All of the file, by as many reads as it takes.
  Result<core::Bytes> content(const File& file) {
    core::Bytes bytes(size_of(file));
    const core::MutableByteView out(bytes);
    EPHFS_TRY(const auto got, run(engine_->read(file, 0, out, {})));
    bytes.resize(got);
    return bytes;
  }
  std::uint64_t size_of(const File& file) {
    const auto attributes = engine_->attributes(file->inode->number, true);
    return attributes ? attributes->size : 0;
  }
  Result<> write(const File& file, std::uint64_t offset, core::Bytes bytes) {
    return run(engine_->write(file, offset, std::move(bytes), {}));
  }
  Result<> flush(const File& file) { return run(engine_->flush(file)); }
  Result<> truncate(const File& file, std::uint64_t size) {
    SetAttributes set;
    set.size = size;
    const auto done = engine_->set_attributes(file->inode->number, set, true);
    return done ? Result<>{} : Result<>(done.error());
  }
  Result<> set_ttl(InodeNumber number, const std::string& ttl) {
    return engine_->set_xattr(number, "user.ephfs.ttl", core::as_bytes(ttl), XattrMode::any);
  }

  ephfs::testing::TempDir directory;
  core::asio::io_context io;
  VirtualClock clock{io};
  core::VolumeKeys keys{core::random_id<core::VolumeId>(), core::random_key(), core::random_key()};
  std::vector<std::unique_ptr<TestNode>> nodes;
  TestPeers peers;
  EngineOptions options;
  KernelLog kernel;
  std::shared_ptr<FakeDisk> disk = std::make_shared<FakeDisk>();
  FaultyCatalog* catalog = nullptr;
  ephfs::testing::FakeEpochKeys* epoch_keys = nullptr;
  std::function<bool()> fail_commit;
  std::vector<std::string> log;

 private:
  std::unique_ptr<Engine> engine_;
  bool started_ = false;
};

inline core::Bytes filled(std::size_t size, int value) {
  return core::Bytes(size, static_cast<std::byte>(value));
}

class FileVolumeTest : public ::testing::Test {
 protected:
  FileVolumeTest() { volume.open(); }
  FileVolume volume;
};

}  // namespace ephfs::fs::testing
