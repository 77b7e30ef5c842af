// SPDX-License-Identifier: Apache-2.0
// generate_docs errors|configuration|metrics: prints what scripts/generate-docs makes pages of.
#include <cstdio>
#include <string_view>

#include <boost/json.hpp>

#include "api/metrics.h"
#include "base/error.h"
#include "config/loader.h"

namespace {

using aether::ErrorCode;

constexpr ErrorCode kCodes[] = {
#define AETHER_ERROR(name, code, origin, retry, meaning, cure) ErrorCode::name,
#include "base/error_codes.def"
#undef AETHER_ERROR
};

std::string_view text_of(aether::Origin origin) {
  switch (origin) {
    case aether::Origin::Caller:
      return "caller";
    case aether::Origin::UserProgram:
      return "user-program";
    case aether::Origin::Dependency:
      return "dependency";
    case aether::Origin::System:
      return "system";
    case aether::Origin::Us:
      break;
  }
  return "us";
}

std::string_view text_of(aether::Retry retry) {
  switch (retry) {
    case aether::Retry::Never:
      return "never";
    case aether::Retry::Later:
      return "later";
    case aether::Retry::Now:
      return "now";
    case aether::Retry::OnlyIfIdempotent:
      break;
  }
  return "only-if-idempotent";
}

std::string errors() {
  boost::json::array rows;
  for (ErrorCode const code : kCodes) {
    aether::ErrorInfo const& row = aether::info(code);
    rows.push_back(boost::json::object{{"code", row.name},
                                       {"origin", text_of(row.origin)},
                                       {"retry", text_of(row.retry)},
                                       {"meaning", row.meaning},
                                       {"cure", row.cure}});
  }
  return boost::json::serialize(rows);
}

}  // namespace

int main(int count, char** arguments) {
  std::string_view const page = count == 2 ? arguments[1] : "";
  if (page == "errors") {
    std::puts(errors().c_str());
  } else if (page == "configuration") {
    std::puts(aether::config::reference_markdown().c_str());
  } else if (page == "metrics") {
    std::puts(aether::api::metrics_markdown().c_str());
  } else {
    std::fputs("usage: generate_docs errors|configuration|metrics\n", stderr);
    return 2;
  }
  return 0;
}
