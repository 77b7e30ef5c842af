// SPDX-License-Identifier: Apache-2.0
// The client's TLS against OpenSSL's server side, on a thread, with a certificate of its own.
#include <fcntl.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "async/testing.h"
#include "http/test_server.h"
#include "http/tls.h"
#include "os/temp_dir.h"

namespace aether::http {
namespace {

using testing::kPatience;

/// A key with a certificate that it has signed itself, for one name.
struct SelfSigned {
  explicit SelfSigned(std::string const& subject_names)
      : key(EVP_EC_gen("P-256")), cert(X509_new()) {
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    auto* const name = X509_get_subject_name(cert);
    auto const* const common = reinterpret_cast<unsigned char const*>("aether test");
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common, -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_EXTENSION* const names =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, subject_names.c_str());
    X509_add_ext(cert, names, -1);
    X509_EXTENSION_free(names);
    X509_sign(cert, key, EVP_sha256());
  }
  ~SelfSigned() {
    X509_free(cert);
    EVP_PKEY_free(key);
  }
  SelfSigned(SelfSigned const&) = delete;
  SelfSigned& operator=(SelfSigned const&) = delete;

  void write(std::string const& path) const {
    std::unique_ptr<FILE, decltype(&::fclose)> const file(::fopen(path.c_str(), "w"), ::fclose);
    PEM_write_X509(file.get(), cert);
  }
  EVP_PKEY* key;
  X509* cert;
};

/// One connection: the handshake, a request, the answer.
class TlsServer {
 public:
  enum class End : std::uint8_t { Said, Cut };
  TlsServer(SelfSigned const& who, std::string answer, End end)
      : listener_(open_tcp_listener("127.0.0.1", 0).value()),
        answer_(std::move(answer)),
        end_(end) {
    // A test that never connects ends it by closing the listener's reading side.
    int const flags = ::fcntl(listener_.fd.get(), F_GETFL);
    ::fcntl(listener_.fd.get(), F_SETFL, flags & ~O_NONBLOCK);
    context_ = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(context_, who.cert);
    SSL_CTX_use_PrivateKey(context_, who.key);
    thread_ = std::thread([this] { serve(); });
  }
  ~TlsServer() {
    ::shutdown(listener_.fd.get(), SHUT_RDWR);
    thread_.join();
    SSL_CTX_free(context_);
  }
  TlsServer(TlsServer const&) = delete;
  TlsServer& operator=(TlsServer const&) = delete;
  [[nodiscard]] Endpoint endpoint() const { return Endpoint::tcp("127.0.0.1", listener_.port); }
  [[nodiscard]] bool was_asked() const { return asked_; }

 private:
  void serve() {
    // OpenSSL writes without MSG_NOSIGNAL; a client that refused us is gone.
    sigset_t pipes;
    ::sigemptyset(&pipes);
    ::sigaddset(&pipes, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipes, nullptr);
    os::UniqueFd const client(::accept(listener_.fd.get(), nullptr, nullptr));
    if (!client) return;
    SSL* const session = SSL_new(context_);
    SSL_set_fd(session, client.get());
    std::array<char, 65536> bytes{};
    if (SSL_accept(session) == 1 &&
        SSL_read(session, bytes.data(), static_cast<int>(bytes.size())) > 0) {
      asked_ = true;
      SSL_write(session, answer_.data(), static_cast<int>(answer_.size()));
      if (end_ == End::Said) SSL_shutdown(session);
      ::shutdown(client.get(), SHUT_WR);
      while (::recv(client.get(), bytes.data(), bytes.size(), 0) > 0) continue;
    }
    SSL_free(session);
  }

  TcpListener listener_;
  std::string answer_;
  End end_;
  SSL_CTX* context_ = nullptr;
  std::atomic<bool> asked_ = false;
  std::thread thread_;
};

struct Seen {
  std::optional<Response> response;
  std::optional<Error> fault;
  FetchTrail trail;
};
async::Task<Seen> ask(Endpoint endpoint, TlsContext const* context) {
  Seen seen;
  Request request{.method = "POST", .body = "x"};
  FetchOptions options{.deadline = kPatience, .tls = context, .trail = &seen.trail};
  async::Task<Response> fetching =
      fetch(std::move(endpoint), std::move(request), std::move(options));
  try {
    Response response = co_await std::move(fetching);
    seen.response = std::move(response);
  } catch (Error const& error) {
    seen.fault = error;
  }
  co_return seen;
}

/// A context that trusts this certificate alone.
TlsContext trusting(SelfSigned const& who) {
  os::TempDir const dir = os::TempDir::create("aether-tls").value();
  std::string const file = dir.path() + "/ca.pem";
  who.write(file);
  return TlsContext::create(file).value();
}

CORO_TEST(FetchByTls, BringsALongAnswerOfAServerWhoseCertificateIsGood) {
  SelfSigned const who("IP:127.0.0.1");
  TlsContext const context = trusting(who);
  std::string const body(300'000, 'x');
  TlsServer const server(who, "HTTP/1.1 200 OK\r\n\r\n" + body, TlsServer::End::Said);
  Seen const seen = co_await ask(server.endpoint(), &context);
  CO_ASSERT_TRUE(seen.response.has_value()) << seen.fault->message();
  EXPECT_EQ(seen.response->body, body);
  EXPECT_TRUE(seen.trail.sent);
}

CORO_TEST(FetchByTls, SendsNothingToAServerWhoseCertificateIsNotAccepted) {
  SelfSigned const who("IP:127.0.0.1");
  SelfSigned const other("DNS:other.example");
  TlsContext const strict = TlsContext::create("").value();
  TlsContext const trusts_other = trusting(other);
  struct Row {
    SelfSigned const* server;
    TlsContext const* context;
  };
  // Nobody the system knows has signed it; and the name is another one's.
  for (Row const& row : {Row{&who, &strict}, Row{&other, &trusts_other}}) {
    TlsServer const server(*row.server, "HTTP/1.1 200 OK\r\n\r\n", TlsServer::End::Said);
    Seen const seen = co_await ask(server.endpoint(), row.context);
    CO_ASSERT_TRUE(seen.fault.has_value());
    EXPECT_EQ(seen.fault->code(), ErrorCode::ProtocolViolation) << seen.fault->message();
    EXPECT_NE(seen.fault->message().find("certificate"), std::string::npos);
    EXPECT_FALSE(seen.trail.sent);
    EXPECT_FALSE(server.was_asked());
  }
}

CORO_TEST(FetchByTls, DoesNotTakeACutConnectionForTheEndOfABody) {
  SelfSigned const who("IP:127.0.0.1");
  TlsContext const context = trusting(who);
  TlsServer const server(who, "HTTP/1.1 200 OK\r\n\r\nhalf of", TlsServer::End::Cut);
  Seen const seen = co_await ask(server.endpoint(), &context);
  CO_ASSERT_TRUE(seen.fault.has_value());
  EXPECT_TRUE(seen.trail.sent);
}

CORO_TEST(FetchByTls, SaysThatAPlainServerDoesNotSpeakTls) {
  testing::TestServer site(loop);
  TlsContext const context = TlsContext::create("").value();
  Seen const seen = co_await ask(site.endpoint(), &context);
  CO_ASSERT_TRUE(seen.fault.has_value());
  EXPECT_EQ(seen.fault->code(), ErrorCode::Unreachable) << seen.fault->message();
  EXPECT_FALSE(seen.trail.sent);
  co_await site.stop();
}

TEST(TlsContext, SaysWhichFileItCannotRead) {
  auto const context = TlsContext::create("/nonexistent/ca.pem");
  ASSERT_FALSE(context.has_value());
  EXPECT_NE(context.error().message().find("/nonexistent/ca.pem"), std::string::npos);
}

TEST(WebUrl, KnowsHttpsAndItsPort) {
  auto const url = parse_web_url("https://a.example/x?y");
  ASSERT_TRUE(url.has_value());
  EXPECT_TRUE(url->secure);
  EXPECT_EQ(url->port, 443);
  EXPECT_EQ(url->authority(), "a.example");
  EXPECT_EQ(url->text(), "https://a.example/x?y");
  EXPECT_EQ(parse_web_url("http://a.example:443/").value().authority(), "a.example:443");
  EXPECT_FALSE(parse_web_url("ftp://a.example/").has_value());
  EXPECT_FALSE(parse_url("https://a.example/").has_value());
}

}  // namespace
}  // namespace aether::http
