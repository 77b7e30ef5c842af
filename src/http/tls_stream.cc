// SPDX-License-Identifier: Apache-2.0
#include "http/tls_stream.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/error.h"
#include "http/listen.h"

namespace aether::http {
namespace {

constexpr std::size_t kTlsReadBytes = std::size_t{32} * 1024;
constexpr std::size_t kTlsRecordBytes = std::size_t{16} * 1024;  // RFC 8446, 5.1

int as_int(std::size_t size) {
  return static_cast<int>(
      std::min(size, static_cast<std::size_t>(std::numeric_limits<int>::max())));
}

}  // namespace

void TlsStream::Free::operator()(ssl_st* session) const {
  SSL_free(session);
}

TlsStream::TlsStream(Socket& socket, TlsContext const& context, std::string host)
    : socket_(socket), host_(std::move(host)), session_(SSL_new(context.get())) {
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  if (!session_ || in == nullptr || out == nullptr) {
    BIO_free(in);
    BIO_free(out);
    throw Error(ErrorCode::SystemCall, "OpenSSL could not make a session");
  }
  SSL_set_bio(session_.get(), in, out);
  SSL_set_connect_state(session_.get());
  X509_VERIFY_PARAM* const checks = SSL_get0_param(session_.get());
  if (ip_address(host_, 443)) {
    X509_VERIFY_PARAM_set1_ip_asc(checks, host_.c_str());
    return;
  }
  X509_VERIFY_PARAM_set_hostflags(checks, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  X509_VERIFY_PARAM_set1_host(checks, host_.data(), host_.size());
  SSL_set_tlsext_host_name(session_.get(), host_.c_str());
}

Error TlsStream::fault(std::string_view doing) const {
  if (long const verdict = SSL_get_verify_result(session_.get()); verdict != X509_V_OK) {
    return {ErrorCode::ProtocolViolation,
            fmt::format("the certificate of {} is not accepted: {}; correct it there, or name its "
                        "authority's file",
                        host_, X509_verify_cert_error_string(verdict))};
  }
  char const* const reason = ERR_reason_error_string(ERR_get_error());
  return {ErrorCode::Unreachable,
          fmt::format("{} {} by TLS: {}", doing, host_,
                      reason != nullptr ? reason : "the connection was cut")};
}

async::Task<void> TlsStream::flush() {
  BIO* const out = SSL_get_wbio(session_.get());
  while (BIO_ctrl_pending(out) > 0) {
    std::string bytes(BIO_ctrl_pending(out), '\0');
    int const got = BIO_read(out, bytes.data(), as_int(bytes.size()));
    bytes.resize(static_cast<std::size_t>(std::max(got, 0)));
    co_await socket_.write_all(bytes, Duration::max());
  }
}

async::Task<bool> TlsStream::fill() {
  std::string bytes;
  std::size_t const got = co_await socket_.read_some(bytes, kTlsReadBytes);
  if (got > 0) BIO_write(SSL_get_rbio(session_.get()), bytes.data(), as_int(bytes.size()));
  co_return got > 0;
}

async::Task<void> TlsStream::handshake() {
  while (true) {
    ERR_clear_error();
    int const result = SSL_do_handshake(session_.get());
    bool const waits = result != 1 && SSL_get_error(session_.get(), result) == SSL_ERROR_WANT_READ;
    // Told before more is said: what is sent next takes the place of the reason.
    if (result != 1 && !waits) throw fault("connecting to");
    co_await flush();
    if (result == 1) co_return;
    bool const more = co_await fill();
    if (!more) throw fault("connecting to");
  }
}

async::Task<std::size_t> TlsStream::read_some(std::string& buffer, std::size_t max) {
  std::array<char, kTlsRecordBytes> plain{};
  while (true) {
    ERR_clear_error();
    int const got = SSL_read(session_.get(), plain.data(), as_int(std::min(max, plain.size())));
    if (got > 0) {
      buffer.append(plain.data(), static_cast<std::size_t>(got));
      co_return static_cast<std::size_t>(got);
    }
    int const reason = SSL_get_error(session_.get(), got);
    if (reason == SSL_ERROR_ZERO_RETURN) co_return 0;
    if (reason != SSL_ERROR_WANT_READ) throw fault("reading from");
    co_await flush();
    bool const more = co_await fill();
    if (!more) throw fault("reading from");
  }
}

async::Task<void> TlsStream::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    ERR_clear_error();
    // Memory takes all of it: only a renegotiation would want to read, and clients refuse those.
    int const wrote =
        SSL_write(session_.get(), bytes.data(), as_int(std::min(bytes.size(), kTlsRecordBytes)));
    if (wrote <= 0) throw fault("sending to");
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
    co_await flush();
  }
}

}  // namespace aether::http
