// SPDX-License-Identifier: Apache-2.0
#include "async/task.h"

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>

namespace aether::async {

bool is_cancelled(std::exception_ptr const& exception) noexcept {
  if (!exception) return false;
  try {
    std::rethrow_exception(exception);
  } catch (boost::system::system_error const& error) {
    return error.code() == boost::asio::error::operation_aborted;
  } catch (...) {
    return false;
  }
}

void throw_cancelled() {
  throw boost::system::system_error(boost::asio::error::operation_aborted, "cancelled");
}

}  // namespace aether::async
