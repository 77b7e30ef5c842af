// SPDX-License-Identifier: Apache-2.0
#include "http/request_parser.h"

#include <limits>
#include <utility>

#include <boost/beast/http/parser.hpp>
#include <fmt/format.h>

#include "http/ascii.h"
#include "http/beast_body.h"
#include "http/url.h"

namespace aether::http {

namespace beast_http = boost::beast::http;

struct RequestParser::Beast {
  beast_http::request_parser<GrowingBody> parser;
};

RequestParser::RequestParser(std::size_t header_bytes_max, std::size_t body_bytes_max)
    : beast_(std::make_unique<Beast>()), header_bytes_max_(header_bytes_max) {
  // Beast's own limit counts the request line and the fields apart: ours counts all of it.
  beast_->parser.header_limit(std::numeric_limits<std::uint32_t>::max());
  beast_->parser.body_limit(body_bytes_max);
  beast_->parser.eager(false);
}

RequestParser::~RequestParser() = default;

RequestParser::Step RequestParser::advance(std::string& buffer) {
  if (beast_->parser.is_header_done()) return advance_body(buffer);
  // RFC 9112, 2.2: empty lines before a request are to be ignored.
  if (header_bytes_ == 0) {
    while (buffer.starts_with("\r\n")) buffer.erase(0, 2);
    if (buffer.empty() || buffer == "\r") return Step::NeedMore;
  }
  return advance_header(buffer);
}

RequestParser::Step RequestParser::advance_header(std::string& buffer) {
  boost::beast::error_code ec;
  while (!ec && !beast_->parser.is_header_done()) {
    std::size_t const taken =
        beast_->parser.put(boost::asio::const_buffer(buffer.data(), buffer.size()), ec);
    buffer.erase(0, taken);
    header_bytes_ += taken;
  }
  bool const done = beast_->parser.is_header_done();
  std::size_t const seen = header_bytes_ + (done ? 0 : buffer.size());
  if (seen > header_bytes_max_) {
    return refuse(431, fmt::format("the headers are longer than {} bytes", header_bytes_max_));
  }
  if (ec == beast_http::error::need_more) return Step::NeedMore;
  if (ec == beast_http::error::body_limit) return refuse(413, "the body is too large");
  if (ec == beast_http::error::bad_version)
    return refuse(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
  if (ec) return refuse(400, ec.message());
  return check_header();
}

RequestParser::Step RequestParser::check_header() {
  auto const& message = beast_->parser.get();
  request_.method = std::string_view(message.method_string());
  request_.target = std::string_view(message.target());
  std::size_t hosts = 0;
  std::size_t encodings = 0;
  for (auto const& field : message) {
    if (field.name() == beast_http::field::host) ++hosts;
    if (field.name() == beast_http::field::transfer_encoding) ++encodings;
    request_.headers.add(std::string(std::string_view(field.name_string())),
                         std::string(std::string_view(field.value())));
  }
  // RFC 9112, 6.1: what frames the body differently for us than for a proxy before us is an attack.
  bool const chunked = equal_ignoring_case(request_.headers.get("Transfer-Encoding"), "chunked");
  if (encodings > 0 && is_http_1_0()) return refuse(400, "HTTP/1.0 has no Transfer-Encoding");
  if (encodings > 1 || (encodings == 1 && !chunked)) {
    return refuse(501, "the only Transfer-Encoding that is understood is chunked");
  }
  if (hosts > 1 || (hosts == 0 && !is_http_1_0())) {
    return refuse(400, "a request needs one Host header");
  }
  auto target = parse_target(request_.target);
  if (!target) return refuse(400, target.error().message());
  request_.path = std::move(target->path);
  request_.query = std::move(target->query);
  std::string_view const expect = request_.headers.get("Expect");
  if (!expect.empty() && !equal_ignoring_case(expect, "100-continue")) {
    return refuse(417, "the only expectation that is understood is 100-continue");
  }
  return Step::HeaderDone;
}

RequestParser::Step RequestParser::advance_body(std::string& buffer) {
  boost::beast::error_code ec;
  while (!ec && !beast_->parser.is_done()) {
    std::size_t const taken =
        beast_->parser.put(boost::asio::const_buffer(buffer.data(), buffer.size()), ec);
    buffer.erase(0, taken);
    if (buffer.empty() && !ec && !beast_->parser.is_done()) return Step::NeedMore;
  }
  if (ec == beast_http::error::body_limit) return refuse(413, "the body is too large");
  if (ec == beast_http::error::need_more) {
    // A chunk's header or a trailer that does not come to its end.
    if (buffer.size() <= header_bytes_max_) return Step::NeedMore;
    return refuse(
        431, fmt::format("a chunk header or trailer is longer than {} bytes", header_bytes_max_));
  }
  if (ec) return refuse(400, ec.message());
  request_.body = std::move(beast_->parser.get().body());
  return Step::Done;
}

RequestParser::Step RequestParser::refuse(int status, std::string detail) {
  refusal_ = {.status = status, .detail = std::move(detail)};
  return Step::Refused;
}

bool RequestParser::expects_continue() const {
  // An HTTP/1.0 client cannot mean it (RFC 9110, 10.1.1), and without a body there is nothing to
  // wait for.
  return !is_http_1_0() && !beast_->parser.is_done() && request_.headers.find("Expect") != nullptr;
}

bool RequestParser::keep_alive() const {
  return beast_->parser.keep_alive();
}

bool RequestParser::is_http_1_0() const {
  return beast_->parser.get().version() < 11;
}

Request RequestParser::take() {
  return std::move(request_);
}

}  // namespace aether::http
