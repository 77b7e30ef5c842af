// SPDX-License-Identifier: Apache-2.0
// What no single key shows: defaults that depend on other keys, and rules between keys. Pure.
#pragma once
#include "config/draft.h"

namespace aether::config {

/// The finished Config; worth nothing if the reader has mistakes after it.
[[nodiscard]] Config resolve(Reader& reader, RootDraft root);

/// 1 to 64 of A-Z a-z 0-9 - _ . beginning with a letter or digit.
[[nodiscard]] bool is_service_name(std::string_view name);

/// "python3 -u agents/my_agent.py" is "my_agent"; "./bin/server --x" is "server".
[[nodiscard]] std::string default_service_name(Command const& command);

/// Mistakes for listeners that want the same address. Default metrics give way with a warning.
void check_addresses(Reader& reader, RootDraft const& root, Config& config);

/// Mistakes for canaries that cannot be split by weight. May turn the weights off.
void check_canary(Reader& reader, RootDraft const& root, ServiceDraft const& draft,
                  Service& service);

/// Mistakes for listeners with `steer: bpf` that cannot be so.
void check_bind_steering(Reader& reader, ServiceDraft const& draft, Service const& service);

/// What the services and functions ask of the kernel; all needs are in the file's order then.
void add_kernel_needs(RootDraft const& root, Config& config);

/// Mistakes for names in `after` that are unknown or form a circle.
void check_order(Reader& reader, std::vector<ServiceDraft> const& services);

}  // namespace aether::config
