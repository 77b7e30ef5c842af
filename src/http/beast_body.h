// SPDX-License-Identifier: Apache-2.0
// Inside of this room, in the two files that include Beast: a body that grows as its bytes arrive.
// Beast's string_body reserves what Content-Length says, which is the peer's word.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/optional.hpp>

namespace aether::http {

struct GrowingBody {
  using value_type = std::string;

  class reader {
   public:
    template <class Header>
    reader(Header& /*header*/, value_type& body) : body_(body) {}

    void init(boost::optional<std::uint64_t> const& /*length*/, boost::beast::error_code& ec) {
      ec = {};
    }
    template <class Buffers>
    std::size_t put(Buffers const& buffers, boost::beast::error_code& ec) {
      ec = {};
      std::size_t const before = body_.size();
      for (auto it = boost::asio::buffer_sequence_begin(buffers);
           it != boost::asio::buffer_sequence_end(buffers); ++it) {
        boost::asio::const_buffer const piece(*it);
        body_.append(static_cast<char const*>(piece.data()), piece.size());
      }
      return body_.size() - before;
    }
    void finish(boost::beast::error_code& ec) { ec = {}; }

   private:
    value_type& body_;
  };
};

}  // namespace aether::http
