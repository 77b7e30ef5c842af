// SPDX-License-Identifier: Apache-2.0
// What the client's encrypted connections have in common: whose certificates count.
#pragma once
#include <memory>
#include <string>

#include "base/result.h"

struct ssl_ctx_st;

namespace aether::http {

/// TLS 1.2 or 1.3 for clients. The peer's certificate must be valid, for the host's name or
/// address, and signed by one of the system's authorities, or by those of `ca_file`.
class TlsContext {
 public:
  /// @param ca_file PEM; empty: the system's own. ConfigInvalid if it cannot be read.
  [[nodiscard]] static Result<TlsContext> create(std::string const& ca_file);

  /// Borrowed.
  [[nodiscard]] ssl_ctx_st* get() const { return context_.get(); }

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
  std::unique_ptr<ssl_ctx_st, Free> context_;
};

}  // namespace aether::http
