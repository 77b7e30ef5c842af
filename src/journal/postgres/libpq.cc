// SPDX-License-Identifier: Apache-2.0
#include "journal/postgres/libpq.h"

#include <dlfcn.h>

#include <atomic>
#include <mutex>
#include <string>

#include <fmt/format.h>

namespace aether::journal::postgres {
namespace {

/// The name that stands for its binary interface: the same from PostgreSQL 8.2 on.
constexpr char kLibrary[] = "libpq.so.5";

/// Looks up functions of the opened library, and remembers the first that is not there.
class Lookup {
 public:
  explicit Lookup(void* library) : library_(library) {}

  template <class Function>
  void operator()(char const* name, Function& function) {
    function = reinterpret_cast<Function>(::dlsym(library_, name));
    if (function == nullptr && missing_.empty()) missing_ = name;
  }
  [[nodiscard]] std::string const& missing() const { return missing_; }

 private:
  void* library_;
  std::string missing_;
};

Result<Libpq> load() {
  // Never closed: libraries that it brings along have threads and hooks at the end of the process.
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    char const* const why = ::dlerror();
    return fail(ErrorCode::Unsupported,
                fmt::format("opening {}, which a store of type postgres needs: {}; install it "
                            "(Debian, Ubuntu: apt-get install libpq5)",
                            kLibrary, why == nullptr ? "it cannot be read" : why));
  }
  Libpq libpq;
  Lookup find(library);
  find("PQbackendPID", libpq.backend_pid);
  find("PQclear", libpq.clear);
  find("PQconnectdbParams", libpq.connect_params);
  find("PQconsumeInput", libpq.consume_input);
  find("PQenterPipelineMode", libpq.enter_pipeline_mode);
  find("PQerrorMessage", libpq.error_message);
  find("PQfinish", libpq.finish);
  find("PQflush", libpq.flush);
  find("PQfreemem", libpq.freemem);
  find("PQgetResult", libpq.get_result);
  find("PQgetisnull", libpq.getisnull);
  find("PQgetlength", libpq.getlength);
  find("PQgetvalue", libpq.getvalue);
  find("PQisBusy", libpq.is_busy);
  find("PQnotifies", libpq.notifies);
  find("PQntuples", libpq.ntuples);
  find("PQparameterStatus", libpq.parameter_status);
  find("PQpipelineSync", libpq.pipeline_sync);
  find("PQresultErrorField", libpq.result_error_field);
  find("PQresultErrorMessage", libpq.result_error_message);
  find("PQresultStatus", libpq.result_status);
  find("PQsendPrepare", libpq.send_prepare);
  find("PQsendQuery", libpq.send_query);
  find("PQsendQueryParams", libpq.send_query_params);
  find("PQsendQueryPrepared", libpq.send_query_prepared);
  find("PQsetNoticeProcessor", libpq.set_notice_processor);
  find("PQsetnonblocking", libpq.setnonblocking);
  find("PQsocket", libpq.socket);
  find("PQstatus", libpq.status);
  if (find.missing().empty()) return libpq;
  return fail(ErrorCode::Unsupported,
              fmt::format("{} has no {}: it is older than PostgreSQL 14; install a newer libpq5",
                          kLibrary, find.missing()));
}

std::atomic<Libpq const*> library_opened{nullptr};

}  // namespace

Status Libpq::open() {
  static std::mutex mutex;
  std::scoped_lock const lock(mutex);
  if (opened() != nullptr) return {};
  TRY_ASSIGN(Libpq const loaded, load());
  static Libpq const kept = loaded;
  library_opened = &kept;
  return {};
}

Libpq const* Libpq::opened() {
  return library_opened;
}

}  // namespace aether::journal::postgres
