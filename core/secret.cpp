// SPDX-License-Identifier: Apache-2.0
#include "core/secret.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/check.hpp"
#include "core/files.hpp"

namespace ephfs::core {
namespace {

bool prepare_sodium() {
  static const bool ready = sodium_init() >= 0;
  return ready;
}

void warn_unlocked() noexcept {
  static std::atomic<bool> warned{false};
  if (warned.exchange(true)) return;
  // One write of constant text: also called in the child of a fork, where little else is allowed.
  constexpr std::string_view kWarning =
      "ephfs: warning: keys cannot be locked in memory and may be written to swap; raise RLIMIT_MEMLOCK\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kWarning.data(), kWarning.size());
}

bool raise_lock_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return false;
  limit.rlim_cur = limit.rlim_max;
  return ::setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
}

void lock_or_warn(std::byte* memory, std::size_t size) noexcept {
  if (sodium_mlock(memory, size) == 0) return;
  if (raise_lock_limit() && sodium_mlock(memory, size) == 0) return;
  warn_unlocked();
}

// Small secrets share slabs; each slab is a sodium_malloc region (guard pages, a canary, locked, not dumped).
// Slabs are kept for the life of the process: what was the busiest moment's need fits again.
class Arena {
 public:
  /// Never destroyed: secrets of static objects are wiped after everything else.
  static Arena& instance() {
    static Arena& arena = *new Arena;
    return arena;
  }

  std::byte* allocate(std::size_t size);
  void release(std::byte* secret, std::size_t size) noexcept;
  std::byte* map(std::size_t size);
  void unmap(std::byte* region) noexcept;

 private:
  static constexpr std::size_t kSlabBytes = 16384;
  static constexpr std::array<std::size_t, 4> kSlotBytes{32, 64, 128, 256};

  struct Region {
    std::size_t size = 0;
    std::size_t slot_bytes = 0;  // 0: one secret has all of it
    std::vector<bool> used;      // by slot
  };

  Arena();
  static std::size_t class_of(std::size_t size);
  std::byte* map_locked(std::size_t size, std::size_t slot_bytes);
  void add_slab(std::size_t slot_class);

  std::mutex mutex_;
  // Guarded by mutex_:
  std::map<std::byte*, Region> regions_;
  std::array<std::vector<std::byte*>, kSlotBytes.size()> free_;
  std::array<std::size_t, kSlotBytes.size()> slots_{};  // all there are, free or not
};

Arena::Arena() {
  EPHFS_CHECK(prepare_sodium(), "libsodium starts");
  // A child does not inherit locks on memory, and a daemon is the child of who asked for its passphrase.
  const int failed = ::pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                                      [] {
                                        Arena& arena = instance();
                                        for (auto& [start, region] : arena.regions_) lock_or_warn(start, region.size);
                                        arena.mutex_.unlock();
                                      });
  EPHFS_CHECK(failed == 0, "fork handlers can be registered");
}

std::size_t Arena::class_of(std::size_t size) {
  std::size_t slot_class = 0;
  while (slot_class < kSlotBytes.size() && kSlotBytes[slot_class] < size) ++slot_class;
  return slot_class;
}

std::byte* Arena::map_locked(std::size_t size, std::size_t slot_bytes) {
  auto* const region = static_cast<std::byte*>(sodium_malloc(size));
  EPHFS_CHECK(region != nullptr, "there is memory for secrets");
  // sodium_malloc has tried to lock it, and says nothing when it could not.
  lock_or_warn(region, size);
  std::vector<bool> used(slot_bytes == 0 ? 0 : size / slot_bytes);
  regions_.emplace(region, Region{size, slot_bytes, std::move(used)});
  return region;
}

void Arena::add_slab(std::size_t slot_class) {
  const std::size_t slot_bytes = kSlotBytes[slot_class];
  const std::size_t count = kSlabBytes / slot_bytes;
  std::byte* const slab = map_locked(kSlabBytes, slot_bytes);
  // Room for every slot there is, so that giving one back never allocates.
  slots_[slot_class] += count;
  free_[slot_class].reserve(slots_[slot_class]);
  for (std::size_t i = count; i-- > 0;) free_[slot_class].push_back(slab + i * slot_bytes);
}

std::byte* Arena::allocate(std::size_t size) {
  const std::size_t slot_class = class_of(size);
  if (slot_class == kSlotBytes.size()) return map(size);
  const std::lock_guard lock(mutex_);
  if (free_[slot_class].empty()) add_slab(slot_class);
  std::byte* const slot = free_[slot_class].back();
  free_[slot_class].pop_back();
  auto& [start, region] = *std::prev(regions_.upper_bound(slot));
  region.used[static_cast<std::size_t>(slot - start) / region.slot_bytes] = true;
  return slot;
}

void Arena::release(std::byte* secret, std::size_t size) noexcept {
  const std::size_t slot_class = class_of(size);
  if (slot_class == kSlotBytes.size()) return unmap(secret);
  const std::lock_guard lock(mutex_);
  const auto after = regions_.upper_bound(secret);
  EPHFS_CHECK(after != regions_.begin(), "a freed secret is of the arena");
  auto& [start, region] = *std::prev(after);
  const auto offset = static_cast<std::size_t>(secret - start);
  EPHFS_CHECK(offset < region.size && region.slot_bytes == kSlotBytes[slot_class] && offset % region.slot_bytes == 0,
              "a freed secret is a slot of its size");
  auto used = region.used[offset / region.slot_bytes];
  EPHFS_CHECK(used, "a secret is freed once");
  sodium_memzero(secret, region.slot_bytes);
  used = false;
  free_[slot_class].push_back(secret);
}

std::byte* Arena::map(std::size_t size) {
  const std::lock_guard lock(mutex_);
  return map_locked(size, 0);
}

void Arena::unmap(std::byte* region) noexcept {
  {
    const std::lock_guard lock(mutex_);
    const auto found = regions_.find(region);
    EPHFS_CHECK(found != regions_.end() && found->second.slot_bytes == 0, "a secret's own mapping is freed once");
    regions_.erase(found);
  }
  sodium_free(region);  // checks its canary, wipes, unlocks
}

}  // namespace

Result<> protect_process_memory() {
  if (!prepare_sodium()) return fail(Error::io, "libsodium does not start");
  // First, for what cannot be dumped cannot change it either. A container may have no /proc, and then no gcore.
  if (const auto filter = open_file("/proc/self/coredump_filter", O_WRONLY)) {
    EPHFS_TRY_VOID(write_all(*filter, 0, as_bytes("0")));
  }
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("prctl PR_SET_DUMPABLE");
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return fail_errno("setrlimit RLIMIT_CORE");
  return {};
}

namespace detail {

std::byte* allocate_secret(std::size_t size) {
  return Arena::instance().allocate(size);
}

void free_secret(std::byte* secret, std::size_t size) noexcept {
  Arena::instance().release(secret, size);
}

}  // namespace detail

SecretText SecretText::copy_of(ByteView text) {
  SecretText copy;
  if (text.empty()) return copy;
  copy.bytes_ = Arena::instance().map(text.size());
  copy.size_ = text.size();
  std::memcpy(copy.bytes_, text.data(), text.size());
  return copy;
}

SecretText::~SecretText() {
  if (bytes_ != nullptr) Arena::instance().unmap(bytes_);
}

SecretText::SecretText(SecretText&& other) noexcept
    : bytes_(std::exchange(other.bytes_, nullptr)), size_(std::exchange(other.size_, 0)) {}

SecretText& SecretText::operator=(SecretText&& other) noexcept {
  if (this == &other) return *this;
  if (bytes_ != nullptr) Arena::instance().unmap(bytes_);
  bytes_ = std::exchange(other.bytes_, nullptr);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

void wipe(MutableByteView bytes) noexcept {
  if (!bytes.empty()) sodium_memzero(bytes.data(), bytes.size());
}

void keep_out_of_dumps(ByteView memory) noexcept {
  if (memory.empty()) return;
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data()) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(memory.data()) + memory.size() + page - 1) / page * page;
  // A kernel that does not know how, or has too many mappings, dumps it: no reason to fail for.
  (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTDUMP);  // NOLINT: pages are numbers
}

bool equal_in_constant_time(ByteView a, ByteView b) {
  return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

void fill_random(MutableByteView out) {
  EPHFS_CHECK(prepare_sodium(), "libsodium starts");
  randombytes_buf(out.data(), out.size());
}

Key random_key() {
  Key key = Key::zeroed();
  fill_random(key.mutable_view());
  return key;
}

}  // namespace ephfs::core
