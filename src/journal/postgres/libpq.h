// SPDX-License-Identifier: Apache-2.0
// Libpq: PostgreSQL's client library, opened with the first connection. With what it brings along
// (LDAP, Kerberos, GnuTLS) it weighs a third of all of Aether, and few stores need it.
#pragma once
#include <libpq-fe.h>

#include "base/result.h"

namespace aether::journal::postgres {

/// The functions that are used, each of the library's type.
struct Libpq {
  /// Opens it once for the process. Unsupported: it is not installed. Thread-safe.
  static Status open();
  /// Null as long as it is not open.
  static Libpq const* opened();

  decltype(&::PQbackendPID) backend_pid = nullptr;
  decltype(&::PQclear) clear = nullptr;
  decltype(&::PQconnectdbParams) connect_params = nullptr;
  decltype(&::PQconsumeInput) consume_input = nullptr;
  decltype(&::PQenterPipelineMode) enter_pipeline_mode = nullptr;
  decltype(&::PQerrorMessage) error_message = nullptr;
  decltype(&::PQfinish) finish = nullptr;
  decltype(&::PQflush) flush = nullptr;
  decltype(&::PQfreemem) freemem = nullptr;
  decltype(&::PQgetResult) get_result = nullptr;
  decltype(&::PQgetisnull) getisnull = nullptr;
  decltype(&::PQgetlength) getlength = nullptr;
  decltype(&::PQgetvalue) getvalue = nullptr;
  decltype(&::PQisBusy) is_busy = nullptr;
  decltype(&::PQnotifies) notifies = nullptr;
  decltype(&::PQntuples) ntuples = nullptr;
  decltype(&::PQparameterStatus) parameter_status = nullptr;
  decltype(&::PQpipelineSync) pipeline_sync = nullptr;
  decltype(&::PQresultErrorField) result_error_field = nullptr;
  decltype(&::PQresultErrorMessage) result_error_message = nullptr;
  decltype(&::PQresultStatus) result_status = nullptr;
  decltype(&::PQsendPrepare) send_prepare = nullptr;
  decltype(&::PQsendQuery) send_query = nullptr;
  decltype(&::PQsendQueryParams) send_query_params = nullptr;
  decltype(&::PQsendQueryPrepared) send_query_prepared = nullptr;
  decltype(&::PQsetNoticeProcessor) set_notice_processor = nullptr;
  decltype(&::PQsetnonblocking) setnonblocking = nullptr;
  decltype(&::PQsocket) socket = nullptr;
  decltype(&::PQstatus) status = nullptr;
};

}  // namespace aether::journal::postgres
