// SPDX-License-Identifier: Apache-2.0
#include "functions/gateway_mail.h"

#include <boost/asio/post.hpp>

namespace aether::functions {

template <class Fn>
void DemandMail::write(Fn fn) {
  {
    std::scoped_lock const lock(mutex_);
    fn(letters_);
    if (std::exchange(on_its_way_, true)) return;
  }
  boost::asio::post(owner_, [self = shared_from_this()] { self->deliver(); });
}

void DemandMail::wanted(std::string const& function, std::uint32_t waiting) {
  write([&](Letters& letters) { letters.wanted[function] = waiting; });
}

void DemandMail::busy(std::string const& function, InstanceId instance, std::uint32_t in_flight) {
  write([&](Letters& letters) { letters.busy[{function, instance}] = in_flight; });
}

void DemandMail::timed_out(std::string const& function, InstanceId instance) {
  write([&](Letters& letters) {
    letters.faults.push_back({.function = function, .instance = instance, .timed_out = true});
  });
}

void DemandMail::unreachable(std::string const& function, InstanceId instance, std::string why) {
  write([&](Letters& letters) {
    letters.faults.push_back({.function = function, .instance = instance, .why = std::move(why)});
  });
}

void DemandMail::deliver() {
  Letters letters;
  {
    std::scoped_lock const lock(mutex_);
    letters = std::exchange(letters_, {});
    on_its_way_ = false;
  }
  // What is told may end the gateway, and with it this conversation.
  for (auto& fault : letters.faults) {
    if (demand_ == nullptr) return;
    if (fault.timed_out)
      demand_->timed_out(fault.function, fault.instance);
    else
      demand_->unreachable(fault.function, fault.instance, std::move(fault.why));
  }
  for (auto const& [of, in_flight] : letters.busy) {
    if (demand_ == nullptr) return;
    demand_->busy(of.first, of.second, in_flight);
  }
  for (auto const& [function, waiting] : letters.wanted) {
    if (demand_ == nullptr) return;
    demand_->wanted(function, waiting);
  }
}

}  // namespace aether::functions
