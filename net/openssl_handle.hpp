// SPDX-License-Identifier: Apache-2.0
// What OpenSSL hands out, given back when its owner goes.
#pragma once

#include <memory>

namespace ephfs::net {

template <auto Free>
struct OpensslFree {
  template <class T>
  void operator()(T* object) const noexcept {
    Free(object);
  }
};

/// `Free` is the function of T's kind: OpensslHandle<SSL, SSL_free>.
template <class T, auto Free>
using OpensslHandle = std::unique_ptr<T, OpensslFree<Free>>;

}  // namespace ephfs::net
