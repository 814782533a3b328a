// SPDX-License-Identifier: Apache-2.0
// The key wheel: epoch keys from a GGM tree over the minutes since the Unix epoch, which forgets past ones
// for good. What it knows is a few seeds (core/ggm_tree.hpp), in memory and in a small file that is written
// in place, so that old seeds are overwritten where the file system overwrites in place. docs/formats.md,
// "Key wheel", has the format.
//
// The file has two slots that hold the same. A change writes one, syncs, writes the other, syncs: at every
// moment one slot is whole and holds the old state or the new. Opening takes the newer whole slot and makes
// the other the same, so that what a crash cut short is finished and no slot keeps seeds that were given up.
//
// The seeds are random: they do not follow from the master key, which only seals the file.
//
// Threads. Any. `disk_` is held while the file is written; key_for() does not wait for that.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/ggm_tree.hpp"
#include "core/keyring.hpp"

namespace ephfs::core {

/// Where a wheel's bytes are: a file, or in tests a disk that loses power. One thread at a time.
class WheelMedium {
 public:
  virtual ~WheelMedium() = default;
  /// All there is, up to `limit` bytes and one more.
  [[nodiscard]] virtual Result<Bytes> read(std::size_t limit) = 0;
  /// Writes in place.
  [[nodiscard]] virtual Result<> write(std::uint64_t offset, ByteView bytes) = 0;
  /// What was written survives loss of power.
  [[nodiscard]] virtual Result<> sync() = 0;
};

class KeyWheel final : public EpochKeys {
 public:
  static constexpr std::size_t kSlotBytes = 4096;
  static constexpr std::size_t kFileBytes = 2 * kSlotBytes;

  /// Makes the wheel of a new volume at `path`, mode 0600, synced. exists where something is.
  [[nodiscard]] static Result<> create(const std::filesystem::path& path, const VolumeKeys& keys);
  /// Opens it, finishing what a crash cut short; the caller sees to it that nobody else has it open. Each
  /// failure names the file: not_found; access_denied when others than its owner may use it; damaged when no
  /// slot is whole or they are not of this volume; version.
  [[nodiscard]] static Result<std::unique_ptr<KeyWheel>> open(const std::filesystem::path& path,
                                                              const VolumeKeys& keys);

  /// The bytes of a new wheel, and a wheel over a medium that holds some; `name` is what failures call it.
  [[nodiscard]] static Bytes new_file(const VolumeKeys& keys);
  [[nodiscard]] static Result<std::unique_ptr<KeyWheel>> open_on(std::unique_ptr<WheelMedium> medium, std::string name,
                                                                 const VolumeKeys& keys);

  [[nodiscard]] Result<Key> key_for(Deadline deadline) const override;
  [[nodiscard]] Result<> puncture(Instant confirmed) override;
  [[nodiscard]] PunctureRecord punctured() const override;

 private:
  struct State;  // what a slot holds
  static Bytes slot_of(const Key& sealing, VolumeId volume, const State& state);
  static Result<std::optional<State>> read_slot(const std::string& name, const Key& sealing, VolumeId volume,
                                                ByteView slot);

  KeyWheel(std::unique_ptr<WheelMedium> medium, std::string name, const VolumeKeys& keys, State state, Bytes image);
  /// disk_ held. Makes both slots image_, one after the other.
  [[nodiscard]] Result<> save();

  const std::string name_;
  const VolumeId volume_;
  const Key sealing_;

  std::mutex disk_;  // guards what follows, and is taken before mutex_
  std::unique_ptr<WheelMedium> medium_;
  std::uint64_t generation_ = 0;
  Bytes image_;                                // what both slots are to be: ciphertext
  std::array<bool, 2> current_{false, false};  // the slot is image_, on stable storage
  unsigned next_ = 0;                          // the slot to write next: the other one is whole, on stable storage

  mutable std::mutex mutex_;  // guards what follows
  GgmTree tree_;
  Key permanent_;
  Instant last_;              // confirmed time of the last puncture
  PunctureRecord destroyed_;  // what is on disk, too
  /// Keys that were asked for lately, by epoch modulo the size: a file is made under the same key as the one
  /// before.
  struct Derived {
    std::uint64_t epoch = 0;
    Key key;
  };
  mutable std::array<Derived, 64> derived_;
};

}  // namespace ephfs::core
