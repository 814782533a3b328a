// SPDX-License-Identifier: Apache-2.0
// A volume's and a node's long-lived secrets on disk.
#pragma once

#include <filesystem>

#include "core/aead.hpp"
#include "core/ids.hpp"
#include "core/result.hpp"
#include "core/secret.hpp"
#include "core/signing.hpp"
#include "core/time.hpp"

namespace ephfs::core {

/// What a volume's key file holds: docs/formats.md, "Key file".
struct VolumeKeys {
  VolumeId volume;
  Key master;         // seals the key wheel
  SigningSeed owner;  // signs leases, removals and manifests
};

/// Makes `path` with new random keys, mode 0600, written, synced and renamed. With a passphrase they are sealed under
/// Argon2id (libsodium's MODERATE limits) and XChaCha20-Poly1305; without one they are in the file as they are.
[[nodiscard]] Result<VolumeKeys> create_volume_keys(const std::filesystem::path& path, const SecretText* passphrase);
/// Reads them back. bad_passphrase for a wrong one, and where one is needed and none is given; damaged with the path
/// for a file that is not whole; access_denied when the file is open to others than its owner.
[[nodiscard]] Result<VolumeKeys> open_volume_keys(const std::filesystem::path& path, const SecretText* passphrase);
/// Whether the key file at `path` is sealed with a passphrase.
[[nodiscard]] Result<bool> needs_passphrase(const std::filesystem::path& path);

/// A node's signing seed: read from `path`, or made there (0600, synced) when there is none.
[[nodiscard]] Result<SigningSeed> load_or_create_node_seed(const std::filesystem::path& path);

/// What has been destroyed for good: every epoch that ended at or before `until`, last at the confirmed time `at`. Both
/// are the Unix epoch where nothing has been.
struct PunctureRecord {
  Instant until;
  Instant at;
  friend bool operator==(const PunctureRecord&, const PunctureRecord&) = default;
};

/// Epoch keys: the key of a file that dies at D is wrapped under the key of epoch D / kEpoch (rounded down), and files
/// that never die under one of its own. KeyWheel is the implementation. Thread-safe.
class EpochKeys {
 public:
  static constexpr Milliseconds kEpoch{60'000};

  virtual ~EpochKeys() = default;
  /// The wrapping key for files that die at `deadline`; stale when that epoch's key has been destroyed,
  /// invalid_argument for one further than there are keys.
  [[nodiscard]] virtual Result<Key> key_for(Deadline deadline) const = 0;
  /// Destroys the keys of all epochs that have ended at `confirmed`, and is the one thing that does; time that comes
  /// back destroys nothing and brings nothing back. After a failure the keys are not given out any more but are still
  /// on disk: to be called again.
  [[nodiscard]] virtual Result<> puncture(Instant confirmed) = 0;
  /// What has been destroyed, in memory and on disk.
  [[nodiscard]] virtual PunctureRecord punctured() const = 0;
};

}  // namespace ephfs::core
