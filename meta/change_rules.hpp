// SPDX-License-Identifier: Apache-2.0
// What a change may say, whatever the catalog holds. Private to meta/.
#pragma once

#include "meta/catalog.hpp"

namespace ephfs::meta {

/// invalid_argument, with words, for a record that no catalog may hold.
[[nodiscard]] Result<> check_change(const Change& change);

}  // namespace ephfs::meta
