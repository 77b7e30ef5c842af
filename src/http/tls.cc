// SPDX-License-Identifier: Apache-2.0
#include "http/tls.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

namespace aether::http {

void TlsContext::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}

Result<TlsContext> TlsContext::create(std::string const& ca_file) {
  ERR_clear_error();
  TlsContext context(SSL_CTX_new(TLS_client_method()));
  if (context.get() == nullptr) return fail(ErrorCode::SystemCall, "OpenSSL could not be set up");
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  int const loaded = ca_file.empty() ? SSL_CTX_set_default_verify_paths(context.get())
                                     : SSL_CTX_load_verify_file(context.get(), ca_file.c_str());
  if (loaded == 1) return context;
  std::string_view const whose =
      ca_file.empty() ? std::string_view("the system's store") : std::string_view(ca_file);
  char const* const reason = ERR_reason_error_string(ERR_get_error());
  return fail(ErrorCode::ConfigInvalid,
              fmt::format("reading the certificates of authorities in {}: {}", whose,
                          reason != nullptr ? reason : "not readable"));
}

}  // namespace aether::http
