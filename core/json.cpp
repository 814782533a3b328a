// SPDX-License-Identifier: Apache-2.0
// Boost.JSON, compiled once here instead of linked as a library of its own.
#include <boost/json/src.hpp>
