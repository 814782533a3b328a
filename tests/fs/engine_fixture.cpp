// SPDX-License-Identifier: Apache-2.0
#include "tests/fs/engine_fixture.hpp"

#include <fcntl.h>
#include <sys/stat.h>

namespace ephfs::fs::testing {

TestVolume::TestVolume(std::size_t node_count)
    : keys{core::random_id<core::VolumeId>(), core::random_key(), core::random_key()} {
  for (std::size_t i = 0; i < node_count; ++i) {
    nodes.push_back(std::make_unique<TestNode>(clock, context.get_executor()));
    // The nodes outlive the engine, so the directory need not own them.
    peers.peers.emplace_back(std::shared_ptr<net::Peer>(), &nodes.back()->peer);
  }
  options.directory = directory / "volume";
  std::filesystem::create_directory(options.directory);
}

TestVolume::~TestVolume() {
  close();
  for (auto& node : nodes) clock.run(node->peer.stop());
  clock.settle();
}

void TestVolume::open() {
  auto below = meta::open_sqlite_catalog(options.directory / "catalog");
  ASSERT_TRUE(below) << below.error();
  auto catalog = meta::open_journaled_catalog(*std::move(below), options.directory / "journal");
  ASSERT_TRUE(catalog) << catalog.error();
  const auto broken = (*catalog)->check();
  ASSERT_TRUE(broken) << broken.error();
  EXPECT_TRUE(broken->empty()) << ::testing::PrintToString(*broken);
  auto opened = Engine::open(
      {options, *std::move(catalog), keys, std::make_unique<ephfs::testing::FakeEpochKeys>(keys.master), peers, clock,
       context.get_executor(), [this](std::string line) { log.push_back(std::move(line)); }, nullptr, on_warning});
  ASSERT_TRUE(opened) << opened.error();
  engine_ = *std::move(opened);
}

void TestVolume::start() {
  engine_->start(&kernel);
  started_ = true;
}

void TestVolume::close() {
  if (started_) {
    const auto stopped = run(engine_->stop());
    EXPECT_TRUE(stopped) << stopped.error();
    started_ = false;
  }
  engine_.reset();
}

Attributes TestVolume::write_file(InodeNumber parent, const std::string& name, const std::string& content) {
  auto created = engine_->create(parent, name, 0644, O_RDWR, {});
  EXPECT_TRUE(created) << name << ": " << created.error();
  if (!created) return {};
  auto& [attributes, file] = *created;
  const auto written = engine_->try_write(*file, 0, core::as_bytes(content));
  EXPECT_TRUE(written) << name << ": " << written.error();
  const auto flushed = run(engine_->flush(file));
  EXPECT_TRUE(flushed) << name << ": " << flushed.error();
  engine_->release(file);
  return attributes;
}

std::string TestVolume::read_file(InodeNumber number) {
  const auto attributes = engine_->attributes(number, false);
  if (!attributes) return attributes.error().message();
  const auto file = engine_->open_file(number, O_RDONLY);
  if (!file) return file.error().message();
  std::string content(attributes->size, '\0');
  const core::MutableByteView out = std::as_writable_bytes(std::span(content));
  const auto read = run(engine_->read(*file, 0, out, {}));
  engine_->release(*file);
  if (!read) return read.error().message();
  content.resize(*read);
  return content;
}

Result<std::string> TestVolume::xattr(InodeNumber number, const std::string& name) {
  EPHFS_TRY(const auto value, engine_->xattr(number, name));
  return std::string(core::as_text(value));
}

Result<> TestVolume::set_xattr(InodeNumber number, const std::string& name, const std::string& value, XattrMode mode) {
  return engine_->set_xattr(number, name, core::as_bytes(value), mode);
}

Result<std::vector<std::string>> TestVolume::list(InodeNumber directory_number) {
  EPHFS_TRY(const auto opened, engine_->open_directory(directory_number));
  EPHFS_TRY_VOID(engine_->rewind(*opened));
  std::vector<std::string> names;
  for (const auto& name : opened->names) names.push_back(name.name);
  return names;
}

core::Instant TestVolume::expires(InodeNumber number) {
  const auto text = xattr(number, "user.ephfs.expires");
  EXPECT_TRUE(text) << text.error();
  if (!text || *text == "never") return {};
  const auto at = core::parse_instant(*text);
  EXPECT_TRUE(at) << *text;
  return at ? *at : core::Instant{};
}

}  // namespace ephfs::fs::testing
