// SPDX-License-Identifier: Apache-2.0
// Inside of this room: one client of the server, from accept to close.
#pragma once
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/task.h"
#include "base/time.h"
#include "http/limits.h"
#include "http/message.h"
#include "http/request_parser.h"
#include "http/server.h"
#include "http/socket.h"

namespace aether::http {

class Connection;

/// What the connections of one server share. Outlives them.
struct ConnectionContext {
  async::Executor executor;
  Limits limits;
  Handler handler;
  bool stopping = false;
  std::vector<Connection*> open;
  std::size_t endless_streams = 0;
  SystemClock clock;
};

class Connection {
 public:
  Connection(ConnectionContext& context, Socket socket, Peer peer);
  ~Connection();
  Connection(Connection const&) = delete;
  Connection& operator=(Connection const&) = delete;

  /// Answers requests until the client, a limit or stop() ends it.
  [[nodiscard]] async::Task<void> serve();
  /// The server stops: no further request is waited for, and an endless stream ends.
  void begin_stop();
  /// Since when it has waited for bytes of a request (or for the client to go); nothing while an
  /// answer is made or sent, and once it has been told to give way.
  [[nodiscard]] std::optional<Instant> waiting_since() const { return waiting_since_; }
  /// Since when a GET is being answered, which its client may ask again; nothing for others.
  [[nodiscard]] std::optional<Instant> repeatable_since() const { return repeatable_since_; }
  /// Ends a connection that is one of the two: another client needs its place.
  void give_way();

 private:
  enum class Next : std::uint8_t { Close, Continue };
  enum class Cut : std::uint8_t { Not, ClientGone, Stopping };
  class ChunkWriter;
  struct Exchange;

  [[nodiscard]] async::Task<std::optional<Request>> read_request(RequestParser& parser);
  [[nodiscard]] async::Task<std::optional<std::size_t>> read_until(Instant deadline);
  [[nodiscard]] async::Task<void> continue_with_body(RequestParser const& parser);
  [[nodiscard]] async::Task<std::optional<Response>> run_handler(Request request);
  [[nodiscard]] async::Task<void> call_handler(Request request, std::optional<Response>* response);
  [[nodiscard]] async::Task<void> watch_hang_up();
  [[nodiscard]] async::Task<Next> answer(Exchange exchange, Response response);
  [[nodiscard]] async::Task<void> send_whole(Exchange const& exchange, Response& response);
  [[nodiscard]] async::Task<Next> send_stream(Exchange& exchange, Response& response);
  [[nodiscard]] async::Task<std::exception_ptr> run_stream(Response const& response,
                                                           BodyWriter& writer);
  [[nodiscard]] async::Task<void> watch_client();
  [[nodiscard]] async::Task<void> refuse(int status, std::string detail);
  [[nodiscard]] async::Task<void> linger();
  [[nodiscard]] async::Task<void> discard();
  [[nodiscard]] std::string head_of(Exchange const& exchange, Response& response) const;
  void cut(Cut reason);

  ConnectionContext& context_;
  Socket socket_;
  Peer peer_;
  std::string buffer_;  // received, not yet parsed
  Instant first_request_by_;
  bool served_one_ = false;
  bool idle_ = false;  // waits for the first byte of a request
  bool streams_endlessly_ = false;
  std::optional<Instant> waiting_since_;
  std::optional<Instant> repeatable_since_;
  Cut cut_ = Cut::Not;  // of the handler or stream that runs
  async::Event cut_event_;
};

}  // namespace aether::http
