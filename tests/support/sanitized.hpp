// SPDX-License-Identifier: Apache-2.0
// Whether a sanitizer has replaced what the kernel and the allocator do: locked memory, what is resident.
#pragma once

namespace ephfs::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

}  // namespace ephfs::testing
