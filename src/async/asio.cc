// SPDX-License-Identifier: Apache-2.0
// The compiled part of Boost.Asio, once for the whole program.
#include <boost/asio/impl/src.hpp>
