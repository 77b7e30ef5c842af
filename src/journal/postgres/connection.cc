// SPDX-License-Identifier: Apache-2.0
#include "journal/postgres/connection.h"

#include <endian.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "journal/postgres/libpq.h"

namespace aether::journal::postgres {
namespace {

// pg_type.dat: stable since they exist.
constexpr unsigned kBytes = 17;
constexpr unsigned kNumber = 20;
constexpr unsigned kText = 25;
constexpr unsigned kBytesArray = 1001;
constexpr unsigned kTextArray = 1009;
constexpr unsigned kNumberArray = 1016;
constexpr int kBinary = 1;

/// There since the first connection was opened.
Libpq const& pq() {
  return *Libpq::opened();
}

void put32(std::string& to, std::uint32_t value) {
  std::uint32_t const wire = htobe32(value);
  to.append(reinterpret_cast<char const*>(&wire), sizeof wire);
}
std::string wire_of(std::int64_t value) {
  std::uint64_t const wire = htobe64(static_cast<std::uint64_t>(value));
  return {reinterpret_cast<char const*>(&wire), sizeof wire};
}

/// The head of an array of one dimension: src/backend/utils/adt/arrayfuncs.c, array_recv().
std::string array_head(unsigned element, std::size_t count) {
  std::string head;
  put32(head, count == 0 ? 0 : 1);
  put32(head, 1);  // some may be null
  put32(head, element);
  if (count == 0) return head;
  put32(head, static_cast<std::uint32_t>(count));
  put32(head, 1);
  return head;
}
std::string array_of(unsigned element, std::vector<std::string_view> const& values) {
  std::string wire = array_head(element, values.size());
  for (std::string_view const value : values) {
    put32(wire, static_cast<std::uint32_t>(value.size()));
    wire += value;
  }
  return wire;
}

std::string trimmed(char const* text) {
  std::string line(text == nullptr ? "" : text);
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
  for (char& letter : line) {
    if (letter == '\n' || letter == '\t') letter = ' ';
  }
  return line;
}

std::string state_of(PGresult const* result) {
  char const* const state = pq().result_error_field(result, PG_DIAG_SQLSTATE);
  return state == nullptr ? "" : state;
}
bool is_good(PGresult const* result) {
  ExecStatusType const status = pq().result_status(result);
  return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

/// The parameters of a question as libpq wants them.
struct Wire {
  std::vector<Oid> types;
  std::vector<char const*> values;
  std::vector<int> lengths;
  std::vector<int> formats;
};

}  // namespace

std::string name_of_url(std::string_view url) {
  std::size_t const scheme = url.find("://");
  std::size_t const begin = scheme == std::string_view::npos ? 0 : scheme + 3;
  std::size_t const at = url.substr(0, url.find('/', begin)).rfind('@');
  std::string name = "postgres://";
  name += url.substr(at == std::string_view::npos || at < begin ? begin : at + 1);
  // A password may stand among the parameters, too.
  return name.substr(0, name.find('?'));
}

Values& Values::number(std::int64_t value) {
  add(kNumber, wire_of(value));
  return *this;
}
Values& Values::text(std::string_view value) {
  add(kText, std::string(value));
  return *this;
}
Values& Values::bytes(std::string_view value) {
  add(kBytes, std::string(value));
  return *this;
}
Values& Values::numbers(std::vector<std::optional<std::int64_t>> const& values) {
  std::string wire = array_head(kNumber, values.size());
  for (std::optional<std::int64_t> const value : values) {
    put32(wire, value ? sizeof *value : ~std::uint32_t{0});
    if (value) wire += wire_of(*value);
  }
  add(kNumberArray, std::move(wire));
  return *this;
}
Values& Values::texts(std::vector<std::string_view> const& values) {
  add(kTextArray, array_of(kText, values));
  return *this;
}
Values& Values::all_bytes(std::vector<std::string_view> const& values) {
  add(kBytesArray, array_of(kBytes, values));
  return *this;
}

Rows::Rows(pg_result* result) : result_(result) {}
void Rows::Free::operator()(pg_result* result) const {
  pq().clear(result);
}
std::size_t Rows::size() const {
  return static_cast<std::size_t>(pq().ntuples(result_.get()));
}
bool Rows::is_null(std::size_t row, int column) const {
  return pq().getisnull(result_.get(), static_cast<int>(row), column) != 0;
}
std::int64_t Rows::number(std::size_t row, int column) const {
  std::string_view const wire = text(row, column);
  std::uint64_t value = 0;
  if (wire.size() != sizeof value) return 0;
  std::memcpy(&value, wire.data(), sizeof value);
  return static_cast<std::int64_t>(be64toh(value));
}
std::string_view Rows::text(std::size_t row, int column) const {
  int const at = static_cast<int>(row);
  return {pq().getvalue(result_.get(), at, column),
          static_cast<std::size_t>(pq().getlength(result_.get(), at, column))};
}

Error fault_of(std::string_view state, std::string_view doing, std::string_view why) {
  ErrorCode code = ErrorCode::StoreUnavailable;
  if (state == "53100") code = ErrorCode::StoreFull;
  if (state.starts_with("XX0")) code = ErrorCode::StoreDamaged;
  return {code, fmt::format("{}: {}", doing, why)};
}

bool may_be_sent_again(std::string_view state) {
  // Serialization failure, deadlock, a statement or a lock that took too long.
  return state == "40001" || state == "40P01" || state == "57014" || state == "55P03";
}

void Connection::Close::operator()(pg_conn* connection) const {
  pq().finish(connection);
}

Result<Connection> Connection::open(std::string const& url, std::string_view purpose) {
  TRY(Libpq::open());
  std::string const name = name_of_url(url);
  std::string const seconds = std::to_string(kConnectSeconds);
  std::string const program = fmt::format("aether {}", purpose);
  // What the URL says itself goes before this.
  char const* const keys[] = {"fallback_application_name", "connect_timeout",  "keepalives_idle",
                              "keepalives_interval",       "keepalives_count", "tcp_user_timeout",
                              "client_encoding",           "dbname",           nullptr};
  char const* const values[] = {program.c_str(), seconds.c_str(), "5",         "2",    "3",
                                "15000",         "UTF8",          url.c_str(), nullptr};
  std::unique_ptr<pg_conn, Close> connection(pq().connect_params(keys, values, 1));
  if (pq().status(connection.get()) != CONNECTION_OK) {
    return fail(
        ErrorCode::StoreUnavailable,
        fmt::format("connecting to {}: {}", name, trimmed(pq().error_message(connection.get()))));
  }
  pq().set_notice_processor(connection.get(), [](void*, char const*) {}, nullptr);
  if (pq().setnonblocking(connection.get(), 1) != 0)
    return fail(ErrorCode::StoreUnavailable, fmt::format("connecting to {} failed", name));
  return Connection(std::move(connection), name);
}

Error Connection::lost(std::string_view doing) {
  std::string const why = trimmed(pq().error_message(connection_.get()));
  return {ErrorCode::StoreUnavailable,
          fmt::format("{} {}: {}", doing, name_,
                      why.empty() ? "the connection is gone" : std::string_view(why))};
}

Status Connection::wait_readable() {
  struct pollfd wanted{.fd = fd(), .events = POLLIN, .revents = 0};
  while (true) {
    TRY_ASSIGN(bool const sent, flush());
    wanted.events = static_cast<short>(sent ? POLLIN : POLLIN | POLLOUT);
    int const milliseconds =
        static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(kAnswerMax).count());
    int const ready = ::poll(&wanted, 1, milliseconds);
    if (ready == 0) {
      cut();
      return fail(ErrorCode::StoreUnavailable,
                  fmt::format("{} has not answered for {} s: the connection is given up", name_,
                              milliseconds / 1000));
    }
    if (ready < 0 && errno != EINTR) return fail(system_error("poll"));
    if ((wanted.revents & ~POLLOUT) != 0) break;
  }
  if (pq().consume_input(connection_.get()) == 0) return fail(lost("reading from"));
  return {};
}

Result<Rows> Connection::finish(std::string_view what) {
  std::optional<Rows> last;
  std::optional<Error> fault;
  while (true) {
    while (pq().is_busy(connection_.get()) != 0) TRY(wait_readable());
    PGresult* const result = pq().get_result(connection_.get());
    if (result == nullptr) break;
    Rows rows(result);
    if (!is_good(result) && !fault) {
      fault = fault_of(state_of(result), fmt::format("asking {} ({})", name_, what),
                       trimmed(pq().result_error_message(result)));
    }
    last.emplace(std::move(rows));
  }
  if (fault) return fail(*fault);
  if (!last) return fail(lost("asking"));
  return std::move(*last);
}

Status Connection::run(std::string_view sql) {
  if (pq().send_query(connection_.get(), std::string(sql).c_str()) == 0)
    return fail(lost("asking"));
  TRY(finish(sql.substr(0, 40)));
  return {};
}

Result<Rows> Connection::ask(std::string const& sql, Values const& values) {
  Wire wire;
  for (Values::Value const& value : values.values_) {
    wire.types.push_back(value.type);
    wire.values.push_back(value.bytes.data());
    wire.lengths.push_back(static_cast<int>(value.bytes.size()));
    wire.formats.push_back(kBinary);
  }
  int const count = static_cast<int>(values.size());
  if (pq().send_query_params(connection_.get(), sql.c_str(), count, wire.types.data(),
                             wire.values.data(), wire.lengths.data(), wire.formats.data(),
                             kBinary) == 0) {
    return fail(lost("asking"));
  }
  return finish(std::string_view(sql).substr(0, 40));
}

Status Connection::prepare(std::string const& name, std::string const& sql, Values const& types) {
  std::vector<Oid> oids;
  for (Values::Value const& value : types.values_) oids.push_back(value.type);
  if (pq().send_prepare(connection_.get(), name.c_str(), sql.c_str(), static_cast<int>(oids.size()),
                        oids.data()) == 0) {
    return fail(lost("preparing a statement at"));
  }
  TRY(finish(name));
  return {};
}

Status Connection::enter_pipeline() {
  if (pq().enter_pipeline_mode(connection_.get()) == 0)
    return fail(lost("entering pipeline mode at"));
  return {};
}

Status Connection::send(std::string const& name, Values const& values) {
  Wire wire;
  for (Values::Value const& value : values.values_) {
    wire.values.push_back(value.bytes.data());
    wire.lengths.push_back(static_cast<int>(value.bytes.size()));
    wire.formats.push_back(kBinary);
  }
  bool const sent =
      pq().send_query_prepared(connection_.get(), name.c_str(), static_cast<int>(values.size()),
                               wire.values.data(), wire.lengths.data(), wire.formats.data(),
                               kBinary) != 0 &&
      pq().pipeline_sync(connection_.get()) != 0;
  if (!sent) return fail(lost("writing to"));
  return {};
}

Result<bool> Connection::flush() {
  int const left = pq().flush(connection_.get());
  if (left < 0) return fail(lost("writing to"));
  return left == 0;
}

Status Connection::hold(Rows rows) {
  PGresult const* const result = rows.result_.get();
  if (is_good(result)) {
    held_ = Reply{.rows = std::move(rows), .fault = {}, .state = {}};
    return {};
  }
  if (!is_alive()) return fail(lost("reading from"));
  std::string state = state_of(result);
  Error fault = fault_of(state, fmt::format("appending to {}", name_),
                         trimmed(pq().result_error_message(result)));
  held_ = Reply{.rows = {}, .fault = std::move(fault), .state = std::move(state)};
  return {};
}

Result<std::optional<Connection::Reply>> Connection::receive() {
  if (pq().consume_input(connection_.get()) == 0) return fail(lost("reading from"));
  // Between two questions a null stands; two in a row mean that nothing more is here.
  int nulls = 0;
  while (nulls < 2 && pq().is_busy(connection_.get()) == 0) {
    Rows rows(pq().get_result(connection_.get()));
    if (rows.result_ == nullptr) {
      if (!is_alive()) return fail(lost("reading from"));
      ++nulls;
      continue;
    }
    nulls = 0;
    if (pq().result_status(rows.result_.get()) != PGRES_PIPELINE_SYNC) {
      TRY(hold(std::move(rows)));
    } else if (held_) {
      return std::exchange(held_, std::nullopt);
    }
  }
  return std::nullopt;
}

Result<std::vector<Connection::Notice>> Connection::notices() {
  if (pq().consume_input(connection_.get()) == 0) return fail(lost("reading from"));
  std::vector<Notice> found;
  while (PGnotify* const told = pq().notifies(connection_.get())) {
    found.push_back({.payload = told->extra, .process = told->be_pid});
    pq().freemem(told);
  }
  return found;
}

int Connection::process() const {
  return pq().backend_pid(connection_.get());
}
int Connection::fd() const {
  return pq().socket(connection_.get());
}
bool Connection::is_alive() const {
  return !given_up_ && pq().status(connection_.get()) == CONNECTION_OK;
}
std::string Connection::setting(char const* name) const {
  char const* const value = pq().parameter_status(connection_.get(), name);
  return value == nullptr ? "" : value;
}
void Connection::cut() {
  given_up_ = true;
  ::shutdown(fd(), SHUT_RDWR);
}

}  // namespace aether::journal::postgres
