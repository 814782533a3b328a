// SPDX-License-Identifier: Apache-2.0
#include "node/lease_file.hpp"

#include "core/little_endian.hpp"
#include "core/signing.hpp"

namespace ephfs::node {
namespace {

constexpr std::string_view kMagic = "EPHLEASE";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kFixedBytes = 144;
constexpr std::size_t kChecksumBytes = 32;

void append(core::Bytes& out, core::ByteView bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

template <class Integer>
void append_integer(core::Bytes& out, Integer value) {
  out.resize(out.size() + sizeof value);
  core::store_le(core::MutableByteView(out).last(sizeof value), value);
}

/// Reads fields one after another from bytes whose length was checked before.
class FieldReader {
 public:
  explicit FieldReader(core::ByteView bytes) : bytes_(bytes) {}

  template <class Integer>
  Integer integer() {
    const auto value = core::load_le<Integer>(bytes_.subspan(at_));
    at_ += sizeof(Integer);
    return value;
  }
  template <class Id>
  Id id() {
    const auto read = Id::from_bytes(bytes_.subspan(at_, Id::kSize));
    at_ += Id::kSize;
    return *read;
  }

 private:
  core::ByteView bytes_;
  std::size_t at_ = 0;
};

}  // namespace

core::Bytes encode_lease_head(const HeldLease& held) {
  const core::Bytes envelope = held.envelope.serialize();
  EPHFS_CHECK(envelope.size() <= core::kEnvelopeBytesMax, "an accepted lease fits its bounds");
  core::Bytes out;
  out.reserve(kFixedBytes + envelope.size() + kChecksumBytes);
  append(out, core::as_bytes(kMagic));
  append_integer(out, kVersion);
  append_integer(out, static_cast<std::uint32_t>(envelope.size()));
  append(out, held.lease.shard.view());
  append(out, held.lease.node.view());
  append(out, held.lease.owner.view());
  append_integer(out, held.lease.bytes);
  append_integer(out, held.lease.deadline.raw());
  append_integer(out, held.lease.serial);
  append_integer(out, static_cast<std::uint64_t>(core::leaf_count(held.lease.bytes)));
  EPHFS_CHECK(out.size() == kFixedBytes, "the fixed part of a lease head has its documented size");
  append(out, envelope);
  append(out, core::sha256(out).view());
  return out;
}

core::Bytes encode_lease_file(const HeldLease& held, const std::vector<core::Hash>& leaves) {
  EPHFS_CHECK(leaves.size() == core::leaf_count(held.lease.bytes), "a tree is over the whole shard");
  core::Bytes out = encode_lease_head(held);
  out.reserve(out.size() + leaves.size() * core::Hash::kSize);
  for (const auto& leaf : leaves) append(out, leaf.view());
  return out;
}

Result<LeaseHead> parse_lease_head(core::ByteView prefix, std::uint64_t file_bytes) {
  const auto damaged = [](const char* what) { return core::fail(core::Error::damaged, what); };
  if (prefix.size() < kFixedBytes) return damaged("lease file cut short");
  if (core::as_text(prefix.first(kMagic.size())) != kMagic) return damaged("not a lease file");
  FieldReader fields(prefix.subspan(kMagic.size()));
  if (const auto version = fields.integer<std::uint32_t>(); version != kVersion) {
    return core::fail(core::Error::version, "lease file of version " + std::to_string(version));
  }
  const std::size_t envelope_bytes = fields.integer<std::uint32_t>();
  if (envelope_bytes > core::kEnvelopeBytesMax || prefix.size() < kFixedBytes + envelope_bytes + kChecksumBytes) {
    return damaged("lease file cut short");
  }
  const core::ByteView signed_part = prefix.first(kFixedBytes + envelope_bytes);
  const core::ByteView checksum = prefix.subspan(signed_part.size(), kChecksumBytes);
  if (!std::ranges::equal(core::sha256(signed_part).view(), checksum)) {
    return damaged("lease file fails its checksum");
  }

  LeaseHead head;
  head.held.lease.shard = fields.id<core::ShardId>();
  head.held.lease.node = fields.id<core::NodeId>();
  head.held.lease.owner = fields.id<core::OwnerId>();
  head.held.lease.bytes = fields.integer<std::uint64_t>();
  head.held.lease.deadline = core::Deadline::from_raw(fields.integer<std::int64_t>());
  head.held.lease.serial = fields.integer<std::uint64_t>();
  const auto leaves = fields.integer<std::uint64_t>();
  if (head.held.lease.bytes == 0 || head.held.lease.bytes > net::kShardBytesMax ||
      leaves != core::leaf_count(head.held.lease.bytes)) {
    return damaged("lease file of an impossible shard");
  }
  EPHFS_TRY(head.held.envelope, core::Envelope::parse(prefix.subspan(kFixedBytes, envelope_bytes)));
  head.leaves = leaves;
  head.head_bytes = signed_part.size() + kChecksumBytes;
  if (file_bytes != head.head_bytes + leaves * core::Hash::kSize) return damaged("lease file of a wrong length");
  return head;
}

Result<std::vector<core::Hash>> parse_leaf_hashes(core::ByteView file) {
  EPHFS_TRY(const LeaseHead head, parse_lease_head(file, file.size()));
  std::vector<core::Hash> leaves(head.leaves);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    std::memcpy(leaves[i].mutable_view().data(), file.data() + head.head_bytes + i * core::Hash::kSize,
                core::Hash::kSize);
  }
  return leaves;
}

}  // namespace ephfs::node
