// SPDX-License-Identifier: Apache-2.0
#include "http/response_parser.h"

#include <limits>
#include <utility>

#include <boost/beast/http/parser.hpp>
#include <fmt/format.h>

#include "http/beast_body.h"

namespace aether::http {

namespace beast_http = boost::beast::http;

struct ResponseParser::Beast {
  beast_http::response_parser<GrowingBody> parser;
};

namespace {

Failure not_http(std::string_view why) {
  return fail(ErrorCode::ProtocolViolation, fmt::format("the answer is not HTTP: {}", why));
}

}  // namespace

ResponseParser::ResponseParser(std::size_t header_bytes_max, BodyExpected body)
    : header_bytes_max_(header_bytes_max), body_(body) {
  begin();
}

ResponseParser::~ResponseParser() = default;

void ResponseParser::begin() {
  beast_ = std::make_unique<Beast>();
  beast_->parser.header_limit(std::numeric_limits<std::uint32_t>::max());
  beast_->parser.body_limit(boost::none);
  beast_->parser.eager(false);
  beast_->parser.skip(body_ == BodyExpected::No);
}

Result<ResponseParser::Step> ResponseParser::advance(std::string& buffer) {
  if (!header_done_) return advance_header(buffer);
  boost::beast::error_code ec;
  auto& parser = beast_->parser;
  while (!ec && !parser.is_done() && !buffer.empty()) {
    std::size_t const taken =
        parser.put(boost::asio::const_buffer(buffer.data(), buffer.size()), ec);
    buffer.erase(0, taken);
  }
  if (ec && ec != beast_http::error::need_more) return not_http(ec.message());
  if (ec && buffer.size() > header_bytes_max_) return not_http("a chunk header without an end");
  return parser.is_done() ? Step::Done : Step::NeedMore;
}

Result<ResponseParser::Step> ResponseParser::advance_header(std::string& buffer) {
  boost::beast::error_code ec;
  auto& parser = beast_->parser;
  while (!ec && !parser.is_header_done()) {
    std::size_t const taken =
        parser.put(boost::asio::const_buffer(buffer.data(), buffer.size()), ec);
    buffer.erase(0, taken);
    header_bytes_ += taken;
  }
  std::size_t const seen = header_bytes_ + (parser.is_header_done() ? 0 : buffer.size());
  if (seen > header_bytes_max_) {
    return not_http(fmt::format("its headers are longer than {} bytes", header_bytes_max_));
  }
  if (ec == beast_http::error::need_more) return Step::NeedMore;
  if (ec) return not_http(ec.message());
  if (parser.get().result_int() < 200) {  // an interim response: the real one follows
    begin();
    return advance_header(buffer);
  }
  header_done_ = true;
  response_.status = static_cast<int>(parser.get().result_int());
  for (auto const& field : parser.get()) {
    response_.headers.add(std::string(std::string_view(field.name_string())),
                          std::string(std::string_view(field.value())));
  }
  return Step::HeaderDone;
}

Result<ResponseParser::Step> ResponseParser::end() {
  boost::beast::error_code ec;
  if (!beast_->parser.got_some()) return not_http("the connection was closed without an answer");
  beast_->parser.put_eof(ec);
  if (ec) return not_http("the connection was closed in the middle of the answer");
  return Step::Done;
}

bool ResponseParser::has_body() const {
  return !beast_->parser.get().body().empty();
}

std::string ResponseParser::take_body() {
  return std::exchange(beast_->parser.get().body(), {});
}

}  // namespace aether::http
