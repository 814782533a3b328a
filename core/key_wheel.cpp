// SPDX-License-Identifier: Apache-2.0
#include "core/key_wheel.hpp"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>

#include "core/aead.hpp"
#include "core/check.hpp"
#include "core/files.hpp"
#include "core/little_endian.hpp"
#include "core/signing.hpp"

namespace ephfs::core {
namespace {

// docs/formats.md, "Key wheel", has the grammar.
constexpr std::string_view kMagic = "EPHFSWHL";
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kVersionOffset = 8;
constexpr std::size_t kGenerationOffset = kVersionOffset + sizeof(std::uint16_t);
constexpr std::size_t kVolumeOffset = kGenerationOffset + sizeof(std::uint64_t);
constexpr std::size_t kHeadBytes = kVolumeOffset + VolumeId::kSize;
constexpr std::size_t kFirstOffset = Key::kSize;
constexpr std::size_t kLastOffset = kFirstOffset + sizeof(std::uint64_t);
constexpr std::size_t kSeedsOffset = kLastOffset + sizeof(std::int64_t);
constexpr std::size_t kPlainBytes = kSeedsOffset + GgmTree::kSeedsMax * Key::kSize;
constexpr std::size_t kBoxBytes = 24 + kPlainBytes + kAeadTagBytes;
constexpr std::size_t kSumBytes = 32;
static_assert(kHeadBytes + kBoxBytes + kSumBytes <= KeyWheel::kSlotBytes);

using Plain = Secret<kPlainBytes>;

constexpr std::string_view kSealingPurpose = "keywheel";
constexpr std::string_view kEpochPurpose = "epochkey";

Key sealing_key(const VolumeKeys& keys) {
  return derive_key(keys.master, kSealingPurpose, keys.volume.view());
}

Failure damaged(const std::string& name, std::string_view what) {
  return fail(Error::damaged, "key wheel " + name + ": " + std::string(what));
}

class WheelFile final : public WheelMedium {
 public:
  explicit WheelFile(FileDescriptor file) : file_(std::move(file)) {}

  Result<Bytes> read(std::size_t limit) override {
    struct stat status {};
    if (::fstat(file_.get(), &status) != 0) return fail_errno("stat");
    Bytes bytes(std::min(static_cast<std::size_t>(status.st_size), limit + 1));
    EPHFS_TRY_VOID(read_exactly(file_, 0, bytes));
    return bytes;
  }
  Result<> write(std::uint64_t offset, ByteView bytes) override { return write_all(file_, offset, bytes); }
  Result<> sync() override { return sync_data(file_); }

 private:
  const FileDescriptor file_;
};

}  // namespace

struct KeyWheel::State {
  std::uint64_t generation = 0;
  Key permanent;
  Instant last;
  GgmTree tree;
};

Bytes KeyWheel::slot_of(const Key& sealing, VolumeId volume, const State& state) {
  Plain plain = Plain::zeroed();
  const MutableByteView fields = plain.mutable_view();
  std::ranges::copy(state.permanent.view(), fields.begin());
  store_le(fields.subspan(kFirstOffset), state.tree.first());
  store_le(fields.subspan(kLastOffset), state.last.ms);
  MutableByteView rest = fields.subspan(kSeedsOffset);
  for (const Key& seed : state.tree.seeds()) {
    std::ranges::copy(seed.view(), rest.begin());
    rest = rest.subspan(Key::kSize);
  }
  Bytes slot(kSlotBytes);
  const MutableByteView out(slot);
  std::ranges::copy(as_bytes(kMagic), out.begin());
  store_le(out.subspan(kVersionOffset), kVersion);
  store_le(out.subspan(kGenerationOffset), state.generation);
  std::ranges::copy(volume.view(), out.subspan(kVolumeOffset).begin());
  const Bytes box = seal_small(sealing, out.first(kHeadBytes), plain.view());
  std::ranges::copy(box, out.subspan(kHeadBytes).begin());
  std::ranges::copy(sha256(out.first(kSlotBytes - kSumBytes)).view(), out.last(kSumBytes).begin());
  return slot;
}

/// None for a slot that is not whole: a write was cut off there.
Result<std::optional<KeyWheel::State>> KeyWheel::read_slot(const std::string& name, const Key& sealing, VolumeId volume,
                                                           ByteView slot) {
  std::optional<State> none;
  if (slot.size() != kSlotBytes || as_text(slot.first(kMagic.size())) != kMagic) return none;
  if (!equal_in_constant_time(sha256(slot.first(kSlotBytes - kSumBytes)).view(), slot.last(kSumBytes))) return none;
  const auto version = load_le<std::uint16_t>(slot.subspan(kVersionOffset));
  if (version != kVersion) {
    return fail(Error::version, "key wheel " + name + " has version " + std::to_string(version));
  }
  Plain plain = Plain::zeroed();
  const bool is_ours = std::ranges::equal(slot.subspan(kVolumeOffset, VolumeId::kSize), volume.view());
  if (!is_ours ||
      !open_small(sealing, slot.first(kHeadBytes), slot.subspan(kHeadBytes, kBoxBytes), plain.mutable_view())) {
    return damaged(name, "it is not sealed with this volume's key");
  }
  const ByteView fields = plain.view();
  const auto first = load_le<std::uint64_t>(fields.subspan(kFirstOffset));
  if (first > GgmTree::kLeaves) return damaged(name, "it begins behind its end");
  std::vector<Key> seeds;
  seeds.reserve(GgmTree::kSeedsMax);
  for (std::size_t i = 0; i < GgmTree::seed_count(first); ++i) {
    seeds.push_back(Key::copy_of(fields.subspan(kSeedsOffset + i * Key::kSize, Key::kSize)));
  }
  return std::optional<State>(
      State{load_le<std::uint64_t>(slot.subspan(kGenerationOffset)), Key::copy_of(fields.first(Key::kSize)),
            Instant{load_le<std::int64_t>(fields.subspan(kLastOffset))}, GgmTree(first, std::move(seeds))});
}

Bytes KeyWheel::new_file(const VolumeKeys& keys) {
  const Bytes slot = slot_of(sealing_key(keys), keys.volume, State{1, random_key(), {}, GgmTree(random_key())});
  Bytes file = slot;
  file.insert(file.end(), slot.begin(), slot.end());
  return file;
}

Result<> KeyWheel::create(const std::filesystem::path& path, const VolumeKeys& keys) {
  return create_private_file(path, new_file(keys));
}

Result<std::unique_ptr<KeyWheel>> KeyWheel::open(const std::filesystem::path& path, const VolumeKeys& keys) {
  // Not blocked by a pipe of that name.
  EPHFS_TRY(auto file, open_file(path, O_RDWR | O_NONBLOCK));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno("stat " + path.string());
  if (!S_ISREG(status.st_mode)) return damaged(path.string(), "not a regular file");
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return fail(Error::access_denied, "key wheel " + path.string() + " is open to others than its owner (chmod 600)");
  }
  return open_on(std::make_unique<WheelFile>(std::move(file)), path.string(), keys);
}

Result<std::unique_ptr<KeyWheel>> KeyWheel::open_on(std::unique_ptr<WheelMedium> medium, std::string name,
                                                    const VolumeKeys& keys) {
  const auto named = [&name](const Failure& failure) {
    return fail(failure.code, "key wheel " + name + ": " + failure.detail);
  };
  auto bytes = medium->read(kFileBytes);
  if (!bytes) return named(bytes.error());
  if (bytes->size() > kFileBytes) return damaged(name, "too long");
  // What a killed process wrote may be in memory only; one slot is written over below because the other one
  // is whole.
  if (auto synced = medium->sync(); !synced) return named(synced.error());
  const Key sealing = sealing_key(keys);
  std::optional<State> best;
  unsigned taken = 0;
  std::array<ByteView, 2> slots;
  for (unsigned i = 0; i < 2; ++i) {
    const std::size_t begin = std::min(bytes->size(), i * kSlotBytes);
    slots[i] = ByteView(*bytes).subspan(begin, std::min(bytes->size() - begin, kSlotBytes));
    EPHFS_TRY(auto found, read_slot(name, sealing, keys.volume, slots[i]));
    if (!found || (best && found->generation <= best->generation)) continue;
    best = std::move(found);
    taken = i;
  }
  if (!best) return damaged(name, "neither of its copies is whole");
  const bool same = std::ranges::equal(slots[0], slots[1]);
  std::unique_ptr<KeyWheel> wheel(
      new KeyWheel(std::move(medium), std::move(name), keys, *std::move(best), to_bytes(slots[taken])));
  wheel->current_[taken] = true;
  wheel->current_[1 - taken] = same;
  wheel->next_ = 1 - taken;
  const std::lock_guard disk(wheel->disk_);
  EPHFS_TRY_VOID(wheel->save());
  return wheel;
}

KeyWheel::KeyWheel(std::unique_ptr<WheelMedium> medium, std::string name, const VolumeKeys& keys, State state,
                   Bytes image)
    : name_(std::move(name)),
      volume_(keys.volume),
      sealing_(sealing_key(keys)),
      medium_(std::move(medium)),
      generation_(state.generation),
      image_(std::move(image)),
      tree_(std::move(state.tree)),
      permanent_(std::move(state.permanent)),
      last_(state.last) {
  // Only what both slots hold has been opened with: save() sees to it before anybody asks.
  destroyed_ = {Instant{static_cast<std::int64_t>(tree_.first()) * kEpoch.count()}, last_};
}

Result<Key> KeyWheel::key_for(Deadline deadline) const {
  const std::lock_guard lock(mutex_);
  if (deadline.is_never()) return permanent_.copy();
  if (deadline.raw() < 0) return fail(Error::stale, "the key of that time has been destroyed");
  const auto epoch = static_cast<std::uint64_t>(deadline.raw() / kEpoch.count());
  Derived& derived = derived_[epoch % derived_.size()];
  if (derived.key.empty() || derived.epoch != epoch) {
    EPHFS_TRY(const Key leaf, tree_.leaf(epoch));
    derived = {epoch, derive_key(leaf, kEpochPurpose, {})};
  }
  return derived.key.copy();
}

Result<> KeyWheel::puncture(Instant confirmed) {
  const std::lock_guard disk(disk_);
  const auto ended = static_cast<std::uint64_t>(std::max<std::int64_t>(confirmed.ms / kEpoch.count(), 0));
  const std::uint64_t first = std::min(ended, GgmTree::kLeaves);
  PunctureRecord record;
  {
    const std::lock_guard lock(mutex_);
    if (first > tree_.first()) {
      tree_.puncture(first);
      last_ = confirmed;
      for (Derived& derived : derived_) {
        if (derived.epoch < first) derived.key.reset();
      }
      std::vector<Key> seeds;
      seeds.reserve(GgmTree::kSeedsMax);
      for (const Key& seed : tree_.seeds()) seeds.push_back(seed.copy());
      image_ = slot_of(sealing_, volume_, {++generation_, permanent_.copy(), last_, GgmTree(first, std::move(seeds))});
      current_ = {false, false};
    }
    record = {Instant{static_cast<std::int64_t>(tree_.first()) * kEpoch.count()}, last_};
  }
  EPHFS_TRY_VOID(save());
  const std::lock_guard lock(mutex_);
  destroyed_ = record;
  return {};
}

PunctureRecord KeyWheel::punctured() const {
  const std::lock_guard lock(mutex_);
  return destroyed_;
}

Result<> KeyWheel::save() {
  const auto write = [this](unsigned slot) -> Result<> {
    EPHFS_TRY_VOID(medium_->write(slot * kSlotBytes, image_));
    return medium_->sync();
  };
  for (std::size_t slots = 0; slots < current_.size(); ++slots) {
    if (!current_[next_]) {
      if (auto written = write(next_); !written) {
        return fail(written.error().code, "key wheel " + name_ + ": " + written.error().detail);
      }
      current_[next_] = true;
    }
    next_ = 1 - next_;
  }
  return {};
}

}  // namespace ephfs::core
