// SPDX-License-Identifier: Apache-2.0
#include "core/keyring.hpp"

#include <array>

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.hpp"
#include "core/files.hpp"
#include "core/little_endian.hpp"

namespace ephfs::core {
namespace {

// docs/formats.md, "Key file", has the grammar.
constexpr std::string_view kVolumeMagic = "EPHFSKEY";
constexpr std::string_view kNodeMagic = "EPHFSNOD";
constexpr std::uint16_t kVersion = 1;
enum class Sealing : std::uint16_t { none = 0, passphrase = 1 };

constexpr std::size_t kMagicBytes = 8;
constexpr std::size_t kHeadBytes = kMagicBytes + 2 * sizeof(std::uint16_t);
constexpr std::size_t kSumBytes = 32;
constexpr std::size_t kKeysBytes = Key::kSize + SigningSeed::kSize;
constexpr std::size_t kSaltBytes = crypto_pwhash_SALTBYTES;
constexpr std::size_t kLimitsBytes = 2 * sizeof(std::uint64_t);
constexpr std::size_t kBoxBytes = 24 + kKeysBytes + kAeadTagBytes;
constexpr std::size_t kPlainFileBytes = kHeadBytes + VolumeId::kSize + kKeysBytes + kSumBytes;
constexpr std::size_t kSealedFileBytes =
    kHeadBytes + VolumeId::kSize + kLimitsBytes + kSaltBytes + kBoxBytes + kSumBytes;
constexpr std::size_t kNodeFileBytes = kHeadBytes + SigningSeed::kSize + kSumBytes;

// A file may ask for this much work and no more, whoever wrote it.
constexpr std::uint64_t kOpsMax = 16;
constexpr std::uint64_t kMemoryMax = 1U << 30U;  // bytes

// A key file's content, in memory fit for it.
class Image {
 public:
  [[nodiscard]] ByteView view() const { return bytes_.view().first(size_); }
  [[nodiscard]] MutableByteView extend(std::size_t size) {
    EPHFS_CHECK(size <= kBytesMax - size_, "a key file has a largest size");
    size_ += size;
    return bytes_.mutable_view().subspan(size_ - size, size);
  }
  void append(ByteView part) {
    const MutableByteView out = extend(part.size());
    std::memcpy(out.data(), part.data(), part.size());
  }
  template <class Integer>
  void append_integer(Integer value) {
    store_le(extend(sizeof value), value);
  }
  void append_head(std::string_view magic, Sealing sealing) {
    append(as_bytes(magic));
    append_integer(kVersion);
    append_integer(static_cast<std::uint16_t>(sealing));
  }
  void append_sum() { append(sha256(view()).view()); }

  static constexpr std::size_t kBytesMax = 256;

 private:
  Secret<kBytesMax> bytes_ = Secret<kBytesMax>::zeroed();
  std::size_t size_ = 0;
};
static_assert(kSealedFileBytes <= Image::kBytesMax && kPlainFileBytes <= Image::kBytesMax);

// Takes fields off the front of bytes whose length was checked.
class Fields {
 public:
  explicit Fields(ByteView bytes) : rest_(bytes) {}
  ByteView take(std::size_t size) {
    const ByteView field = rest_.first(size);
    rest_ = rest_.subspan(size);
    return field;
  }
  template <class Integer>
  Integer take_integer() {
    return load_le<Integer>(take(sizeof(Integer)));
  }

 private:
  ByteView rest_;
};

Failure damaged(const std::filesystem::path& path, std::string_view what) {
  return fail(Error::damaged, "key file " + path.string() + ": " + std::string(what));
}

Result<Image> read_image(const std::filesystem::path& path) {
  // Not blocked by a pipe of that name.
  EPHFS_TRY(const auto file, open_file(path, O_RDONLY | O_NONBLOCK));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno("stat " + path.string());
  if (!S_ISREG(status.st_mode)) return damaged(path, "not a regular file");
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return fail(Error::access_denied, "key file " + path.string() + " is open to others than its owner (chmod 600)");
  }
  if (status.st_size > static_cast<off_t>(Image::kBytesMax)) return damaged(path, "too long");
  Image image;
  EPHFS_TRY_VOID(read_exactly(file, 0, image.extend(static_cast<std::size_t>(status.st_size))));
  return image;
}

// Checks everything that all kinds have; the sealing is what remains to be known of the head.
Result<Sealing> check_image(const std::filesystem::path& path, ByteView image, std::string_view magic) {
  if (image.size() < kHeadBytes + kSumBytes) return damaged(path, "too short");
  Fields fields(image);
  if (as_text(fields.take(kMagicBytes)) != magic) return damaged(path, "not a key file of this kind");
  const auto version = fields.take_integer<std::uint16_t>();
  if (version != kVersion) {
    return fail(Error::version, "key file " + path.string() + " has version " + std::to_string(version));
  }
  const ByteView body = image.first(image.size() - kSumBytes);
  if (!equal_in_constant_time(sha256(body).view(), image.last(kSumBytes))) {
    return damaged(path, "its checksum does not match");
  }
  return static_cast<Sealing>(fields.take_integer<std::uint16_t>());
}

Result<Sealing> check_volume_image(const std::filesystem::path& path, ByteView image) {
  EPHFS_TRY(const Sealing sealing, check_image(path, image, kVolumeMagic));
  if (sealing != Sealing::none && sealing != Sealing::passphrase) return damaged(path, "sealed in an unknown way");
  if (image.size() != (sealing == Sealing::none ? kPlainFileBytes : kSealedFileBytes)) {
    return damaged(path, "wrong length");
  }
  return sealing;
}

// Argon2id (RFC 9106).
Result<Key> stretch(const SecretText& passphrase, ByteView salt, std::uint64_t ops, std::uint64_t memory) {
  Key key = Key::zeroed();
  const ByteView text = passphrase.view();
  if (crypto_pwhash(as_u8(key.mutable_view()), Key::kSize, reinterpret_cast<const char*>(text.data()), text.size(),
                    as_u8(salt), ops, memory, crypto_pwhash_ALG_ARGON2ID13) != 0) {
    return fail(Error::no_memory, "Argon2id needs " + std::to_string(memory >> 20U) + " MiB");
  }
  return key;
}

Secret<kKeysBytes> join_keys(const VolumeKeys& keys) {
  auto joined = Secret<kKeysBytes>::zeroed();
  const MutableByteView out = joined.mutable_view();
  std::memcpy(out.data(), keys.master.view().data(), Key::kSize);
  std::memcpy(out.data() + Key::kSize, keys.owner.view().data(), SigningSeed::kSize);
  return joined;
}

VolumeKeys split_keys(const VolumeId& volume, ByteView joined) {
  return {volume, Key::copy_of(joined.first(Key::kSize)), SigningSeed::copy_of(joined.last(SigningSeed::kSize))};
}

Result<Image> volume_image(const VolumeKeys& keys, const SecretText* passphrase) {
  const auto joined = join_keys(keys);
  Image image;
  image.append_head(kVolumeMagic, passphrase == nullptr ? Sealing::none : Sealing::passphrase);
  image.append(keys.volume.view());
  if (passphrase == nullptr) {
    image.append(joined.view());
  } else {
    constexpr std::uint64_t kOps = crypto_pwhash_OPSLIMIT_MODERATE;
    constexpr std::uint64_t kMemory = crypto_pwhash_MEMLIMIT_MODERATE;
    static_assert(kOps <= kOpsMax && kMemory <= kMemoryMax);
    std::array<std::byte, kSaltBytes> salt{};
    fill_random(salt);
    image.append_integer(kOps);
    image.append_integer(kMemory);
    image.append(salt);
    EPHFS_TRY(const Key key, stretch(*passphrase, salt, kOps, kMemory));
    image.append(seal_small(key, image.view(), joined.view()));
  }
  image.append_sum();
  return image;
}

Result<Secret<kKeysBytes>> unseal_keys(const std::filesystem::path& path, ByteView image,
                                       const SecretText& passphrase) {
  constexpr std::size_t kBoxOffset = kSealedFileBytes - kSumBytes - kBoxBytes;
  Fields fields(image.subspan(kHeadBytes + VolumeId::kSize));
  const auto ops = fields.take_integer<std::uint64_t>();
  const auto memory = fields.take_integer<std::uint64_t>();
  const ByteView salt = fields.take(kSaltBytes);
  if (ops < crypto_pwhash_OPSLIMIT_MIN || ops > kOpsMax || memory < crypto_pwhash_MEMLIMIT_MIN || memory > kMemoryMax) {
    return damaged(path, "asks for too much or too little work");
  }
  EPHFS_TRY(const Key key, stretch(passphrase, salt, ops, memory));
  auto joined = Secret<kKeysBytes>::zeroed();
  if (!open_small(key, image.first(kBoxOffset), fields.take(kBoxBytes), joined.mutable_view())) {
    return fail(Error::bad_passphrase, "key file " + path.string());
  }
  return joined;
}

Result<SigningSeed> load_node_seed(const std::filesystem::path& path) {
  EPHFS_TRY(const Image image, read_image(path));
  EPHFS_TRY(const Sealing sealing, check_image(path, image.view(), kNodeMagic));
  if (sealing != Sealing::none) return damaged(path, "sealed in an unknown way");
  if (image.view().size() != kNodeFileBytes) return damaged(path, "wrong length");
  return SigningSeed::copy_of(image.view().subspan(kHeadBytes, SigningSeed::kSize));
}

}  // namespace

Result<VolumeKeys> create_volume_keys(const std::filesystem::path& path, const SecretText* passphrase) {
  if (passphrase != nullptr && passphrase->view().empty()) {
    return fail(Error::invalid_argument, "the passphrase is empty");
  }
  VolumeKeys keys{random_id<VolumeId>(), random_key(), random_key()};
  EPHFS_TRY(const Image image, volume_image(keys, passphrase));
  EPHFS_TRY_VOID(create_private_file(path, image.view()));
  return keys;
}

Result<VolumeKeys> open_volume_keys(const std::filesystem::path& path, const SecretText* passphrase) {
  EPHFS_TRY(const Image image, read_image(path));
  EPHFS_TRY(const Sealing sealing, check_volume_image(path, image.view()));
  const auto volume = VolumeId::from_bytes(image.view().subspan(kHeadBytes, VolumeId::kSize));
  if (!volume || volume->is_zero()) return damaged(path, "it names no volume");
  if (sealing == Sealing::none) {
    // Who gave a passphrase counts on it: a plain file in the place of a sealed one is not taken.
    if (passphrase != nullptr) {
      return fail(Error::invalid_argument, "key file " + path.string() + " is not sealed with a passphrase");
    }
    return split_keys(*volume, image.view().subspan(kHeadBytes + VolumeId::kSize, kKeysBytes));
  }
  if (passphrase == nullptr) {
    return fail(Error::bad_passphrase, "key file " + path.string() + " needs a passphrase");
  }
  EPHFS_TRY(const auto joined, unseal_keys(path, image.view(), *passphrase));
  return split_keys(*volume, joined.view());
}

Result<bool> needs_passphrase(const std::filesystem::path& path) {
  EPHFS_TRY(const Image image, read_image(path));
  EPHFS_TRY(const Sealing sealing, check_volume_image(path, image.view()));
  return sealing == Sealing::passphrase;
}

Result<SigningSeed> load_or_create_node_seed(const std::filesystem::path& path) {
  auto loaded = load_node_seed(path);
  if (loaded || loaded.error().code != Error::not_found) return loaded;
  SigningSeed seed = random_key();
  Image image;
  image.append_head(kNodeMagic, Sealing::none);
  image.append(seed.view());
  image.append_sum();
  const auto made = create_private_file(path, image.view());
  if (made) return seed;
  // Another process was first: its seed is the node's.
  if (made.error().code == Error::exists) return load_node_seed(path);
  return made.error();
}

}  // namespace ephfs::core
