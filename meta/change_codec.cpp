// SPDX-License-Identifier: Apache-2.0
#include "meta/change_codec.hpp"

#include <algorithm>
#include <limits>

#include "core/little_endian.hpp"

namespace ephfs::meta {

using core::Error;
using core::fail;

namespace {

enum class Kind : std::uint8_t {
  put_inode = 1,
  drop_inode = 2,
  put_name = 3,
  drop_name = 4,
  put_xattr = 5,
  drop_xattr = 6,
  put_extent = 7,
  drop_extent = 8,
  put_stripe = 9,
  put_dead_file = 10,
  drop_dead_file = 11,
  put_placement = 12,
  put_removal = 13,
  drop_removal = 14,
  staged_bytes = 15,
};

constexpr std::uint8_t kIsExplicit = 1;
constexpr std::uint8_t kHasProfile = 2;

/// Appends; one overload a kind of change.
class Encoder {
 public:
  void operator()(const PutInode& put) {
    const InodeRecord& inode = put.inode;
    kind(Kind::put_inode);
    number(inode.number.value);
    for (const std::uint32_t value : {inode.mode, inode.uid, inode.gid, inode.links}) number(value);
    number(inode.rdev);
    number(inode.size);
    for (const FileTime time : {inode.accessed, inode.modified, inode.changed}) number(time.ns);
    raw(inode.file.view());
    blob(inode.wrapped_key);
    blob(core::as_bytes(inode.target));
    number(inode.deadline.raw());
    number(std::int64_t{inode.ttl.count()});
    number(inode.default_deadline.raw());
    number(
        static_cast<std::uint8_t>((inode.deadline_explicit ? kIsExplicit : 0U) | (inode.profile ? kHasProfile : 0U)));
    number(static_cast<std::uint8_t>(inode.ttl_mode));
    if (inode.profile) {
      number(inode.profile->k);
      number(inode.profile->m);
    }
  }
  void operator()(const DropInode& drop) {
    kind(Kind::drop_inode);
    number(drop.inode.value);
  }
  void operator()(const PutName& put) {
    kind(Kind::put_name);
    number(put.parent.value);
    blob(core::as_bytes(put.name));
    number(put.inode.value);
  }
  void operator()(const DropName& drop) {
    kind(Kind::drop_name);
    number(drop.parent.value);
    blob(core::as_bytes(drop.name));
  }
  void operator()(const PutXattr& put) {
    kind(Kind::put_xattr);
    number(put.inode.value);
    blob(core::as_bytes(put.name));
    blob(put.value);
  }
  void operator()(const DropXattr& drop) {
    kind(Kind::drop_xattr);
    number(drop.inode.value);
    blob(core::as_bytes(drop.name));
  }
  void operator()(const PutExtent& put) {
    kind(Kind::put_extent);
    extent(put.extent);
  }
  void operator()(const DropExtent& drop) {
    kind(Kind::drop_extent);
    number(drop.inode.value);
    number(drop.offset);
  }
  void operator()(const PutStripe& put) {
    const StripeRecord& stripe = put.stripe;
    kind(Kind::put_stripe);
    number(stripe.number.value);
    raw(stripe.id.view());
    number(static_cast<std::uint8_t>(stripe.state));
    number(static_cast<std::uint8_t>(stripe.format));
    number(stripe.profile.k);
    number(stripe.profile.m);
    number(stripe.length);
    number(stripe.deadline.raw());
    number(stripe.created.ms);
  }
  void operator()(const PutDeadFile& put) {
    const DeadFileRecord& dead = put.file;
    kind(Kind::put_dead_file);
    number(dead.number.value);
    raw(dead.file.view());
    number(static_cast<std::uint8_t>(dead.cause));
    number(dead.died.ms);
    number(dead.deadline.raw());
    number(dead.size);
    number(static_cast<std::uint8_t>(dead.complete ? 1 : 0));
    number(static_cast<std::uint32_t>(dead.extents.size()));
    for (const ExtentRecord& one : dead.extents) extent(one);
  }
  void operator()(const DropDeadFile& drop) {
    kind(Kind::drop_dead_file);
    number(drop.number.value);
  }
  void operator()(const PutPlacement& put) {
    const PlacementRecord& row = put.placement;
    kind(Kind::put_placement);
    number(row.stripe.value);
    number(row.index);
    raw(row.shard.view());
    raw(row.node.view());
    number(static_cast<std::uint8_t>(row.stored ? 1 : 0));
    number(row.shard_bytes);
    number(row.lease_serial);
    number(row.lease_deadline.raw());
    blob(row.receipt);
  }
  void operator()(const PutRemoval& put) {
    kind(Kind::put_removal);
    raw(put.removal.shard.view());
    raw(put.removal.node.view());
    number(put.removal.serial);
    number(put.removal.lease_deadline.raw());
  }
  void operator()(const DropRemoval& drop) {
    kind(Kind::drop_removal);
    raw(drop.shard.view());
    raw(drop.node.view());
  }
  void operator()(const StagedBytes& staged) {
    kind(Kind::staged_bytes);
    number(staged.stripe.value);
    blob(core::as_bytes(staged.file));
    number(staged.offset);
    blob(staged.bytes);
  }
  template <class Other>
  void operator()(const Other&) {
    EPHFS_CHECK(false, "only changes that the journal has a form for are encoded");
  }

  [[nodiscard]] core::Bytes take() { return std::move(bytes_); }

 private:
  void kind(Kind kind) { number(static_cast<std::uint8_t>(kind)); }
  template <std::integral Integer>
  void number(Integer value) {
    bytes_.resize(bytes_.size() + sizeof value);
    core::store_le(core::MutableByteView(bytes_).last(sizeof value), value);
  }
  void extent(const ExtentRecord& extent) {
    number(extent.inode.value);
    number(extent.offset);
    number(extent.length);
    number(extent.stripe.value);
    number(extent.stripe_offset);
    number(extent.origin_offset);
    number(extent.origin_length);
  }
  void raw(core::ByteView view) { bytes_.insert(bytes_.end(), view.begin(), view.end()); }
  void blob(core::ByteView view) {
    EPHFS_CHECK(view.size() <= std::numeric_limits<std::uint32_t>::max(), "a blob's length fits in 32 bits");
    number(static_cast<std::uint32_t>(view.size()));
    raw(view);
  }

  core::Bytes bytes_;
};

/// Reads; what is missing reads as zeros and is remembered.
class Decoder {
 public:
  explicit Decoder(core::ByteView bytes) : rest_(bytes) {}
  [[nodiscard]] bool at_end() const { return rest_.empty() || !sound_; }
  [[nodiscard]] bool is_sound() const { return sound_; }

  Change change() {
    switch (static_cast<Kind>(number<std::uint8_t>())) {
      case Kind::put_inode:
        return PutInode{inode()};
      case Kind::drop_inode:
        return DropInode{inode_number()};
      case Kind::put_name: {
        PutName put{inode_number(), text(), {}};
        put.inode = inode_number();
        return put;
      }
      case Kind::drop_name: {
        const InodeNumber parent = inode_number();
        return DropName{parent, text()};
      }
      case Kind::put_xattr: {
        PutXattr put{inode_number(), text(), {}};
        put.value = core::to_bytes(blob());
        return put;
      }
      case Kind::drop_xattr: {
        const InodeNumber number = inode_number();
        return DropXattr{number, text()};
      }
      case Kind::put_extent:
        return PutExtent{extent()};
      case Kind::drop_extent: {
        const InodeNumber inode = inode_number();
        return DropExtent{inode, number<std::uint64_t>()};
      }
      case Kind::put_stripe:
        return PutStripe{stripe()};
      case Kind::put_dead_file:
        return PutDeadFile{dead_file()};
      case Kind::drop_dead_file:
        return DropDeadFile{inode_number()};
      case Kind::put_placement:
        return PutPlacement{placement()};
      case Kind::put_removal:
        return PutRemoval{removal()};
      case Kind::drop_removal: {
        const auto shard = id<core::ShardId>();
        return DropRemoval{shard, id<core::NodeId>()};
      }
      case Kind::staged_bytes:
        break;  // behind all changes
    }
    sound_ = false;
    return DropInode{};
  }
  [[nodiscard]] bool is_at_staged() const {
    return rest_.front() == std::byte{static_cast<std::uint8_t>(Kind::staged_bytes)};
  }
  StagedBytes staged() {
    StagedBytes staged;
    if (static_cast<Kind>(number<std::uint8_t>()) != Kind::staged_bytes) sound_ = false;
    staged.stripe = {number<std::int64_t>()};
    staged.file = text();
    staged.offset = number<std::uint64_t>();
    staged.bytes = core::to_bytes(blob());
    // It is written to: never outside its directory.
    if (staged.file.empty() || staged.file == "." || staged.file == ".." ||
        staged.file.find('/') != std::string::npos || staged.file.find('\0') != std::string::npos) {
      sound_ = false;
    }
    return staged;
  }

 private:
  core::ByteView raw(std::size_t size) {
    if (size > rest_.size()) {
      sound_ = false;
      rest_ = {};
      return {};
    }
    const core::ByteView taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  template <std::integral Integer>
  Integer number() {
    const core::ByteView bytes = raw(sizeof(Integer));
    return bytes.empty() ? Integer{0} : core::load_le<Integer>(bytes);
  }
  core::ByteView blob() { return raw(number<std::uint32_t>()); }
  std::string text() { return std::string(core::as_text(blob())); }
  InodeNumber inode_number() { return {number<std::uint64_t>()}; }
  FileTime time() { return {number<std::int64_t>()}; }
  Deadline deadline() { return Deadline::from_raw(number<std::int64_t>()); }

  InodeRecord inode() {
    InodeRecord inode;
    inode.number = inode_number();
    for (std::uint32_t* field : {&inode.mode, &inode.uid, &inode.gid, &inode.links}) {
      *field = number<std::uint32_t>();
    }
    inode.rdev = number<std::uint64_t>();
    inode.size = number<std::uint64_t>();
    for (FileTime* field : {&inode.accessed, &inode.modified, &inode.changed}) *field = time();
    inode.file = id<core::FileId>();
    inode.wrapped_key = core::to_bytes(blob());
    inode.target = text();
    inode.deadline = deadline();
    inode.ttl = core::Milliseconds(number<std::int64_t>());
    inode.default_deadline = deadline();
    const auto flags = number<std::uint8_t>();
    const auto mode = number<std::uint8_t>();
    if (flags > (kIsExplicit | kHasProfile) || mode > static_cast<std::uint8_t>(TtlMode::accessed)) sound_ = false;
    inode.deadline_explicit = (flags & kIsExplicit) != 0;
    inode.ttl_mode = static_cast<TtlMode>(mode);
    if ((flags & kHasProfile) != 0) {
      const auto k = number<std::uint8_t>();
      inode.profile = core::Profile{k, number<std::uint8_t>()};
    }
    return inode;
  }
  ExtentRecord extent() {
    ExtentRecord extent;
    extent.inode = inode_number();
    extent.offset = number<std::uint64_t>();
    extent.length = number<std::uint64_t>();
    extent.stripe = {number<std::int64_t>()};
    extent.stripe_offset = number<std::uint64_t>();
    extent.origin_offset = number<std::uint64_t>();
    extent.origin_length = number<std::uint64_t>();
    return extent;
  }
  /// A byte of at most `most`.
  std::uint8_t small(std::uint8_t most) {
    const auto value = number<std::uint8_t>();
    if (value > most) sound_ = false;
    return value;
  }
  template <class Id>
  Id id() {
    return Id::from_bytes(raw(Id::kSize)).value_or(Id{});
  }
  StripeRecord stripe() {
    StripeRecord stripe;
    stripe.number = {number<std::int64_t>()};
    stripe.id = id<core::StripeId>();
    stripe.state = static_cast<StripeState>(small(static_cast<std::uint8_t>(StripeState::placed)));
    stripe.format = static_cast<core::BlockFormat>(number<std::uint8_t>());
    stripe.profile.k = number<std::uint8_t>();
    stripe.profile.m = number<std::uint8_t>();
    stripe.length = number<std::uint64_t>();
    stripe.deadline = deadline();
    stripe.created = {number<std::int64_t>()};
    return stripe;
  }
  PlacementRecord placement() {
    PlacementRecord row;
    row.stripe = {number<std::int64_t>()};
    row.index = number<std::uint8_t>();
    row.shard = id<core::ShardId>();
    row.node = id<core::NodeId>();
    row.stored = small(1) == 1;
    row.shard_bytes = number<std::uint64_t>();
    row.lease_serial = number<std::uint64_t>();
    row.lease_deadline = deadline();
    row.receipt = core::to_bytes(blob());
    return row;
  }
  RemovalRecord removal() {
    RemovalRecord removal;
    removal.shard = id<core::ShardId>();
    removal.node = id<core::NodeId>();
    removal.serial = number<std::uint64_t>();
    removal.lease_deadline = deadline();
    return removal;
  }
  DeadFileRecord dead_file() {
    DeadFileRecord dead;
    dead.number = inode_number();
    dead.file = id<core::FileId>();
    dead.cause = static_cast<DeathCause>(small(static_cast<std::uint8_t>(DeathCause::removed)));
    dead.died = {number<std::int64_t>()};
    dead.deadline = deadline();
    dead.size = number<std::uint64_t>();
    dead.complete = small(1) == 1;
    const auto count = number<std::uint32_t>();
    if (count > kDeadExtentsMax) sound_ = false;
    for (std::uint32_t index = 0; index < count && sound_; ++index) dead.extents.push_back(extent());
    return dead;
  }

  core::ByteView rest_;
  bool sound_ = true;
};

}  // namespace

bool is_encodable(const Changes& changes) {
  return std::ranges::all_of(changes, [](const Change& change) {
    return std::holds_alternative<PutInode>(change) || std::holds_alternative<DropInode>(change) ||
           std::holds_alternative<PutName>(change) || std::holds_alternative<DropName>(change) ||
           std::holds_alternative<PutXattr>(change) || std::holds_alternative<DropXattr>(change) ||
           std::holds_alternative<PutExtent>(change) || std::holds_alternative<DropExtent>(change) ||
           std::holds_alternative<PutStripe>(change) || std::holds_alternative<PutDeadFile>(change) ||
           std::holds_alternative<DropDeadFile>(change) || std::holds_alternative<PutPlacement>(change) ||
           std::holds_alternative<PutRemoval>(change) || std::holds_alternative<DropRemoval>(change);
  });
}

core::Bytes encode_commit(const Changes& changes, const std::vector<StagedBytes>& staged) {
  Encoder encoder;
  for (const Change& change : changes) std::visit(encoder, change);
  for (const StagedBytes& one : staged) encoder(one);
  return encoder.take();
}

Result<JournaledCommit> decode_commit(core::ByteView bytes) {
  JournaledCommit commit;
  Decoder decoder(bytes);
  while (!decoder.at_end() && !decoder.is_at_staged()) commit.changes.push_back(decoder.change());
  while (!decoder.at_end()) commit.staged.push_back(decoder.staged());
  if (!decoder.is_sound()) return fail(Error::damaged, "changes that nobody encodes");
  return commit;
}

}  // namespace ephfs::meta
