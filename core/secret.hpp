// SPDX-License-Identifier: Apache-2.0
// Secrets in memory: locked, left out of core dumps, wiped when released. Keys live in slots of a shared arena, because
// a page of its own for each of ten thousand open files' keys would be four guard pages for 32 bytes.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <utility>

#include "core/bytes.hpp"
#include "core/result.hpp"

namespace ephfs::core {

/// Prepares libsodium and takes core dumps away from this process (PR_SET_DUMPABLE, RLIMIT_CORE); what a debugger dumps
/// all the same holds no memory but of files (coredump_filter, which gcore asks). Once, at start.
[[nodiscard]] Result<> protect_process_memory();

namespace detail {
[[nodiscard]] std::byte* allocate_secret(std::size_t size);
void free_secret(std::byte* secret, std::size_t size) noexcept;
}  // namespace detail

/// `Size` secret bytes. Movable, not copyable (copy() says so aloud), wiped when destroyed. A moved-from or
/// default-made Secret is empty. Thread-compatible.
template <std::size_t Size>
class Secret {
 public:
  static constexpr std::size_t kSize = Size;

  Secret() = default;
  [[nodiscard]] static Secret copy_of(ByteView bytes) {
    EPHFS_CHECK(bytes.size() == Size, "a secret is made from exactly its size");
    Secret secret = zeroed();
    std::memcpy(secret.bytes_, bytes.data(), Size);
    return secret;
  }
  [[nodiscard]] static Secret zeroed() {
    Secret secret;
    secret.bytes_ = detail::allocate_secret(Size);
    std::memset(secret.bytes_, 0, Size);
    return secret;
  }
  ~Secret() { reset(); }
  Secret(Secret&& other) noexcept : bytes_(std::exchange(other.bytes_, nullptr)) {}
  Secret& operator=(Secret&& other) noexcept {
    if (this != &other) {
      reset();
      bytes_ = std::exchange(other.bytes_, nullptr);
    }
    return *this;
  }
  [[nodiscard]] Secret copy() const { return copy_of(view()); }

  [[nodiscard]] bool empty() const noexcept { return bytes_ == nullptr; }
  [[nodiscard]] ByteView view() const {
    EPHFS_CHECK(bytes_ != nullptr, "an empty secret is not read");
    return {bytes_, Size};
  }
  [[nodiscard]] MutableByteView mutable_view() {
    EPHFS_CHECK(bytes_ != nullptr, "an empty secret is not written");
    return {bytes_, Size};
  }
  void reset() noexcept {
    if (bytes_ != nullptr) detail::free_secret(std::exchange(bytes_, nullptr), Size);
  }

 private:
  std::byte* bytes_ = nullptr;
};

using Key = Secret<32>;  // a symmetric key

/// A passphrase or other secret text of any length, in a mapping of its own. Movable.
class SecretText {
 public:
  SecretText() = default;
  [[nodiscard]] static SecretText copy_of(ByteView text);
  ~SecretText();
  SecretText(SecretText&& other) noexcept;
  SecretText& operator=(SecretText&& other) noexcept;
  [[nodiscard]] ByteView view() const noexcept { return {bytes_, size_}; }

 private:
  std::byte* bytes_ = nullptr;
  std::size_t size_ = 0;
};

/// Overwrites bytes with zeros, which no optimizer leaves out.
void wipe(MutableByteView bytes) noexcept;
/// Leaves the pages that `memory` lies in out of core dumps from now on, as long as they are mapped. Costs a system
/// call.
void keep_out_of_dumps(ByteView memory) noexcept;

/// Whether two runs of equal length are the same, in time that depends on the length only.
[[nodiscard]] bool equal_in_constant_time(ByteView a, ByteView b);

/// Random bytes from libsodium's generator (a test may install another with randombytes_set_implementation).
void fill_random(MutableByteView out);
[[nodiscard]] Key random_key();
template <class Id>
[[nodiscard]] Id random_id() {
  Id id;
  fill_random(id.mutable_view());
  return id;
}

}  // namespace ephfs::core
