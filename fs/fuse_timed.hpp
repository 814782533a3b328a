// SPDX-License-Identifier: Apache-2.0
// Operations that a profile can see: libfuse calls timed<handler>, which measures from the request's arrival on this
// thread to its reply, also when the reply comes from a coroutine later. Private to fs/fuse_*.
#pragma once

#include "core/profile.hpp"
#include "fs/fuse_request.hpp"

namespace ephfs::fs {

/// The measurement of the request that this thread is handling; null outside a handler.
inline thread_local core::ProbeSpan* current_request_span = nullptr;

/// Takes the measurement out of the handler's hands, for whoever will send the reply.
[[nodiscard]] inline core::ProbeSpan take_request_span() {
  return current_request_span == nullptr ? core::ProbeSpan() : std::exchange(*current_request_span, core::ProbeSpan());
}

template <auto Handler>
struct Timed;

template <class... Rest, void (*Handler)(fuse_req_t, Rest...)>
struct Timed<Handler> {
  static core::Probe& probe(std::string_view name) {
    static core::Probe operation("operation", name);
    return operation;
  }
  static void call(fuse_req_t request, Rest... rest) {
    core::ProbeSpan span(probe({}));
    current_request_span = &span;
    Handler(request, rest...);
    current_request_span = nullptr;
    span.finish();
  }
};

/// The handler, measured under `name`, a literal.
template <auto Handler>
[[nodiscard]] auto timed(std::string_view name) {
  (void)Timed<Handler>::probe(name);
  return &Timed<Handler>::call;
}

}  // namespace ephfs::fs
