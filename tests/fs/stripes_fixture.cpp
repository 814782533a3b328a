// SPDX-License-Identifier: Apache-2.0
#include "tests/fs/stripes_fixture.hpp"

#include <algorithm>
#include <set>

#include <sys/stat.h>

namespace ephfs::fs::testing {

using core::Error;
using core::fail;

namespace {

constexpr std::uint64_t kMachineBytes = std::uint64_t{1} << 30U;

}  // namespace

/// What becomes of a call before it reaches the node.
core::awaitable<Result<>> MoodyPeer::arrive(net::CallLimits limits) {
  if (mood == Mood::down) co_return fail(Error::unreachable, "refused");
  const core::Mailbox<char> stopped;
  std::function<void()> give_up = [stopped] { stopped.post('s'); };
  const std::stop_callback<std::function<void()>> on_stop(limits.stop, std::move(give_up));
  const core::Boottime now = clock_.boot_now();
  const core::Boottime there = mood == Mood::silent ? limits.until : std::min(limits.until, now + delay);
  if (there > now) {
    const auto letter = co_await stopped.receive_until(clock_, there);
    if (letter) co_return fail(Error::cancelled);
  }
  if (clock_.boot_now() >= limits.until) co_return fail(Error::timed_out, "no answer");
  co_return Result<>();
}

MoodyPeer::Answer<core::Envelope> MoodyPeer::store(core::Envelope lease, net::ShardSource shard,
                                                   net::CallLimits limits) {
  EPHFS_CO_TRY_VOID(co_await arrive(limits));
  co_return co_await peer_.store(std::move(lease), std::move(shard), limits);
}

MoodyPeer::Answer<net::ShardRange> MoodyPeer::fetch(net::FetchRequest request, net::CallLimits limits) {
  ++fetches;
  EPHFS_CO_TRY_VOID(co_await arrive(limits));
  auto range = co_await peer_.fetch(request, limits);
  if (!range) co_return range;
  fetched_bytes += range->bytes.size();
  if (mood != Mood::lying) co_return range;
  auto bytes = core::to_bytes(range->bytes.view());
  for (auto& byte : bytes) byte ^= std::byte{1};
  range->bytes = core::SharedBytes::copy_of(bytes);
  co_return range;
}

MoodyPeer::Answer<core::Envelope> MoodyPeer::renew(core::Envelope lease, net::CallLimits limits) {
  EPHFS_CO_TRY_VOID(co_await arrive(limits));
  co_return co_await peer_.renew(std::move(lease), limits);
}

MoodyPeer::Answer<core::Envelope> MoodyPeer::remove(core::Envelope removal, net::CallLimits limits) {
  EPHFS_CO_TRY_VOID(co_await arrive(limits));
  co_return co_await peer_.remove(std::move(removal), limits);
}

MoodyPeer::Answer<net::Proof> MoodyPeer::prove(net::Challenge challenge, net::CallLimits limits) {
  EPHFS_CO_TRY_VOID(co_await arrive(limits));
  co_return co_await peer_.prove(std::move(challenge), limits);
}

MoodyPeer::Answer<net::NodeStatus> MoodyPeer::status(net::CallLimits limits) {
  EPHFS_CO_TRY_VOID(co_await arrive(limits));
  co_return co_await peer_.status(limits);
}

MoodyPeer::Answer<std::vector<core::Envelope>> MoodyPeer::deletions(net::ShardInquiry inquiry, net::CallLimits limits) {
  EPHFS_CO_TRY_VOID(co_await arrive(limits));
  co_return co_await peer_.deletions(std::move(inquiry), limits);
}

MoodyPeer::Answer<std::vector<net::Holding>> MoodyPeer::holdings(net::ShardInquiry inquiry, net::CallLimits limits) {
  EPHFS_CO_TRY_VOID(co_await arrive(limits));
  co_return co_await peer_.holdings(std::move(inquiry), limits);
}

Machine::Machine(core::Clock& clock, core::asio::any_io_executor executor, node::ShardStore* other_store)
    : store(kMachineBytes),
      signer(core::random_key()),
      node(other_store != nullptr ? *other_store : store, receipts, clock, signer, std::move(executor)),
      peer(clock, node) {}

std::shared_ptr<net::Peer> Pool::find(const core::NodeId& id) const {
  const auto found = std::ranges::find(peers, id, [](const auto& peer) { return peer->id(); });
  return found == peers.end() ? nullptr : *found;
}

StripesVolume::StripesVolume(std::size_t machine_count, node::ShardStore* first_store) : owner(core::random_key()) {
  for (std::size_t i = 0; i < machine_count; ++i) add_machine(i == 0 ? first_store : nullptr);
  options.directory = directory / "volume";
  std::filesystem::create_directory(options.directory);
}

StripesVolume::~StripesVolume() {
  close();
  for (auto& machine : machines) clock.run(machine->node.stop());
  clock.settle();
}

void StripesVolume::add_machine(node::ShardStore* store) {
  machines.push_back(std::make_unique<Machine>(clock, context.get_executor(), store));
  // The machines outlive the stripes, so the directory need not own them.
  pool.peers.emplace_back(std::shared_ptr<net::Peer>(), &machines.back()->peer);
}

void StripesVolume::open() {
  auto opened = meta::open_sqlite_catalog(options.directory / "catalog");
  ASSERT_TRUE(opened) << opened.error();
  catalog = *std::move(opened);
  if (wrap_catalog) catalog = wrap_catalog(std::move(catalog));
  const auto broken = catalog->check();
  ASSERT_TRUE(broken) << broken.error();
  EXPECT_TRUE(broken->empty()) << ::testing::PrintToString(*broken);
  auto made = Stripes::open({options, *catalog, pool, owner, clock, context.get_executor(),
                             [this](std::string line) { log.push_back(std::move(line)); }, unhurried});
  ASSERT_TRUE(made) << made.error();
  stripes = *std::move(made);
}

void StripesVolume::start() {
  stripes->start();
  started_ = true;
  clock.settle();
}

void StripesVolume::close() {
  // Stopping also joins what reads left behind, so it is done whether or not there was a start.
  if (stripes) {
    EXPECT_TRUE(clock.run(stripes->stop(), options.peer_timeout));
  }
  stripes.reset();
  if (catalog) {
    const auto broken = catalog->check();
    EXPECT_TRUE(broken && broken->empty()) << (broken ? ::testing::PrintToString(*broken) : broken.error().message());
  }
  catalog.reset();
  started_ = false;
}

std::filesystem::path StripesVolume::copy_disk() {
  auto copy = directory / ("volume" + std::to_string(++crashes_));
  std::filesystem::copy(options.directory, copy, std::filesystem::copy_options::recursive);
  return copy;
}

void StripesVolume::open_copy(const std::filesystem::path& copy) {
  close();
  options.directory = copy;
  open();
}

std::unique_ptr<TestFile> StripesVolume::make_file(Milliseconds ttl) {
  auto file = std::make_unique<TestFile>();
  file->inode = {next_inode_++};
  file->id = core::random_id<core::FileId>();
  file->key = core::random_key();
  file->ttl = ttl;
  file->deadline = Deadline(clock.now() + ttl);
  meta::InodeRecord record;
  record.number = file->inode;
  record.mode = S_IFREG | 0600;
  record.file = file->id;
  record.deadline = file->deadline;
  record.ttl = ttl;
  const auto committed = catalog->commit({meta::PutInode{record}});
  EXPECT_TRUE(committed) << committed.error();
  return file;
}

Result<Staged> StripesVolume::stage(const TestFile& file, std::uint64_t offset, core::ByteView bytes) {
  StageRequest request;
  request.inode = file.inode;
  request.cipher = {file.id, &file.key};
  request.deadline = file.deadline;
  request.ttl = file.ttl;
  request.runs = {{offset, bytes}};
  return stripes->stage(request);
}

Result<> StripesVolume::commit(TestFile& file, const Staged& staged, core::ByteView bytes) {
  meta::Changes changes = staged.changes;
  for (const auto& extent : staged.extents) changes.emplace_back(meta::PutExtent{extent});
  EPHFS_TRY_VOID(catalog->commit(changes));
  file.extents.insert(file.extents.end(), staged.extents.begin(), staged.extents.end());
  file.content.insert(file.content.end(), bytes.begin(), bytes.end());
  return {};
}

Result<> StripesVolume::append(TestFile& file, std::size_t bytes) {
  const core::Bytes content = random.bytes(bytes);
  EPHFS_TRY(const Staged staged, stage(file, file.content.size(), content));
  return commit(file, staged, content);
}

void StripesVolume::drop(TestFile& file) {
  meta::Changes changes{meta::DropInode{file.inode}};
  const auto committed = catalog->commit(changes);
  EXPECT_TRUE(committed) << committed.error();
  file.extents.clear();
  file.content.clear();
}

Result<> StripesVolume::check(const TestFile& file, std::uint64_t offset, std::uint64_t length, bool sequential) {
  core::Bytes got(length);
  for (const auto& extent : file.extents) {
    const std::uint64_t from = std::max(extent.offset, offset);
    const std::uint64_t until = std::min(extent.offset + extent.length, offset + length);
    if (from >= until) continue;
    const auto out = core::MutableByteView(got).subspan(from - offset, until - from);
    const net::CallLimits limits{clock.boot_now() + core::Nanoseconds(options.peer_timeout), {}};
    EPHFS_TRY_VOID(run(stripes->read(extent, {file.id, &file.key}, from, out, sequential, limits)));
  }
  const auto expected = core::ByteView(file.content).subspan(offset, length);
  return std::ranges::equal(got, expected) ? Result<>() : Result<>(fail(Error::protocol, "other bytes"));
}

Result<> StripesVolume::check_local(const TestFile& file) {
  core::Bytes got(file.content.size());
  for (const auto& extent : file.extents) {
    const auto out = core::MutableByteView(got).subspan(extent.offset, extent.length);
    EPHFS_TRY_VOID(stripes->try_read(extent, {file.id, &file.key}, extent.offset, out));
  }
  return got == file.content ? Result<>() : Result<>(fail(Error::protocol, "other bytes"));
}

Result<> StripesVolume::settle(const TestFile& file, Durability durability, Milliseconds within) {
  return run(stripes->settle(stripes_of(file), durability, in(within)));
}

std::vector<StripeNumber> StripesVolume::stripes_of(const TestFile& file) const {
  std::set<StripeNumber> numbers;
  for (const auto& extent : file.extents) numbers.insert(extent.stripe);
  return {numbers.begin(), numbers.end()};
}

std::size_t StripesVolume::shards_held() const {
  std::size_t held = 0;
  for (const auto& machine : machines) held += machine->shards();
  return held;
}

std::size_t StripesVolume::files_in(const std::string& folder) const {
  const std::filesystem::directory_iterator at(options.directory / folder);
  return static_cast<std::size_t>(std::distance(begin(at), end(at)));
}

}  // namespace ephfs::fs::testing
