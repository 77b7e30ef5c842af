// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <errno.h>
#include <string.h>

#include <array>
#include <utility>

#include <fmt/format.h>

namespace aether {
namespace {

constexpr std::array kErrors{
#define AETHER_ERROR(name, code, origin, retry, meaning, cure) \
  ErrorInfo{ErrorCode::name, code, Origin::origin, Retry::retry, meaning, cure},
#include "base/error_codes.def"
#undef AETHER_ERROR
};

}  // namespace

ErrorInfo const& info(ErrorCode code) {
  return kErrors.at(static_cast<std::size_t>(code));
}

Error::Error(ErrorCode code, std::string message, int errno_value)
    : code_(code), errno_(errno_value), message_(std::move(message)) {}

std::string Error::describe() const {
  return fmt::format("{}: {}", info(code_).name, message_);
}

Error Error::while_doing(std::string_view doing) && {
  message_ = fmt::format("{}: {}", doing, message_);
  return std::move(*this);
}

Error system_error(std::string_view call, std::string_view what) {
  return system_error_from(errno, call, what);
}

Error system_error_from(int errno_value, std::string_view call, std::string_view what) {
  char const* reason = ::strerrordesc_np(errno_value);
  std::string_view space = what.empty() ? "" : " ";
  return {ErrorCode::SystemCall,
          fmt::format("{}{}{}: {}", call, space, what, reason ? reason : "unknown error"),
          errno_value};
}

}  // namespace aether
