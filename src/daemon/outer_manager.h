// SPDX-License-Identifier: Apache-2.0
// What Aether tells the manager that started it (systemd, a container runtime with sd_notify, or
// another Aether): man 3 sd_notify. Nothing, if there is no NOTIFY_SOCKET.
#pragma once
#include <string>
#include <string_view>

namespace aether::daemon {

class OuterManager {
 public:
  /// Reads NOTIFY_SOCKET; the variable is not passed on to children (supervise/environment.h).
  OuterManager();
  /// "READY=1", "STOPPING=1", "RELOADING=1\nMONOTONIC_USEC=…", "STATUS=…". A manager that does not
  /// listen is no fault of ours: nothing is reported.
  void tell(std::string_view message) const;
  void tell_reloading() const;

 private:
  std::string socket_;
};

}  // namespace aether::daemon
