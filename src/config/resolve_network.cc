// SPDX-License-Identifier: Apache-2.0
// Rules between services: who listens where, and who comes after whom.
#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/limits.h"
#include "config/resolve.h"

namespace aether::config {
namespace {

/// Somebody who wants an address.
struct Claim {
  Address address;
  bool v6_only = false;
  std::string owner;  ///< For the message: "service "web"", "the metrics".
  Place place;
  bool may_give_way = false;
};

bool is_wildcard(Address const& address) {
  return address.host.empty() || address.host == "0.0.0.0" || address.host == "::";
}

// Whether an address takes connections of IPv4, of IPv6.
bool takes_v4(Claim const& claim) {
  bool const is_dual = claim.address.host.empty() || claim.address.host == "::";
  return is_dual ? !claim.v6_only : !claim.address.is_ipv6();
}
bool takes_v6(Claim const& claim) {
  return claim.address.host.empty() || claim.address.is_ipv6();
}

bool collide(Claim const& a, Claim const& b) {
  if (a.address.transport != b.address.transport) return false;
  if (a.address.is_unix()) {
    return a.address.path == b.address.path && a.address.abstract_name == b.address.abstract_name;
  }
  if (a.address.port == 0 || a.address.port != b.address.port) return false;
  bool const common_family = (takes_v4(a) && takes_v4(b)) || (takes_v6(a) && takes_v6(b));
  if (!common_family) return false;
  return a.address.host == b.address.host || is_wildcard(a.address) || is_wildcard(b.address);
}

void add_claim(std::vector<Claim>& claims, std::string_view text, Claim claim) {
  auto address = parse_address(text);
  if (!address) return;
  claim.address = std::move(*address);
  claims.push_back(std::move(claim));
}

std::vector<Claim> claims_of_services(RootDraft const& root, Config const& config) {
  std::vector<Claim> claims;
  for (std::size_t i = 0; i < config.services.size(); ++i) {
    Service const& service = config.services[i];
    ServiceDraft const& draft = root.services[i];
    std::vector<Listen> const listeners = effective_listeners(service);
    for (std::size_t k = 0; k < listeners.size(); ++k) {
      auto const env = draft.places.find("env");
      Place const otherwise = env == draft.places.end() ? draft.place : env->second;
      Place const place =
          service.listen && k < draft.listen_places.size() ? draft.listen_places[k] : otherwise;
      add_claim(claims, listeners[k].address,
                {.v6_only = listeners[k].v6_only,
                 .owner = fmt::format("service \"{}\"", service.name),
                 .place = place});
    }
  }
  return claims;
}

/// A depth-first walk that remembers the way it came.
class CircleFinder {
 public:
  explicit CircleFinder(std::vector<ServiceDraft> const& services) {
    for (ServiceDraft const& service : services) edges_[*service.name] = &service;
  }

  /// The names of a circle that begins at `start`, or nothing.
  std::vector<std::string> find(std::string const& start) {
    way_.clear();
    seen_.clear();
    return visit(start, start) ? way_ : std::vector<std::string>();
  }

 private:
  // Depth is at most the number of services, kServicesMax.
  bool visit(std::string const& name, std::string const& goal) {
    way_.push_back(name);
    for (std::string const& next : edges_.at(name)->value.after) {
      if (next == goal) return true;
      bool const is_new = edges_.contains(next) && seen_.insert(next).second;
      if (is_new && visit(next, goal)) return true;
    }
    way_.pop_back();
    return false;
  }

  std::map<std::string, ServiceDraft const*> edges_;
  std::vector<std::string> way_;
  std::set<std::string> seen_;
};

}  // namespace

void check_addresses(Reader& reader, RootDraft const& root, Config& config) {
  std::vector<Claim> claims = claims_of_services(root, config);
  if (claims.size() > kListenersTotalMax) {
    reader.mistake({}, fmt::format("the services have {} listeners; the limit is {}", claims.size(),
                                   kListenersTotalMax));
    return;
  }
  for (std::size_t i = 0; i < config.functions.size(); ++i) {
    Function const& function = config.functions[i];
    FunctionDraft const& draft = root.functions[i];
    auto const port = draft.places.find("trigger_port");
    if (function.trigger_port == 0) continue;
    add_claim(claims, fmt::format(":{}", function.trigger_port),
              {.owner = fmt::format("function \"{}\"", function.id),
               .place = port == draft.places.end() ? draft.place : port->second});
  }
  if (config.api.port) {
    std::string const host =
        config.api.host.contains(':') ? fmt::format("[{}]", config.api.host) : config.api.host;
    add_claim(claims, fmt::format("{}:{}", host, *config.api.port),
              {.owner = "the api", .place = root.places.at("api")});
  }
  Observability& observability = config.observability;
  if (observability.metrics_address) {
    auto const section = root.places.find("observability");
    add_claim(claims, *observability.metrics_address,
              {.owner = "observability.metrics_port",
               .place = section == root.places.end() ? Place{} : section->second,
               .may_give_way = !observability.metrics_given});
  }
  std::map<std::pair<int, std::string>, std::vector<Claim const*>> taken;
  for (Claim const& claim : claims) {
    Address const& address = claim.address;
    auto& others = taken[{address.port, address.path}];
    auto const other =
        std::ranges::find_if(others, [&](Claim const* one) { return collide(*one, claim); });
    if (other == others.end()) {
      others.push_back(&claim);
    } else if (claim.may_give_way) {
      observability.metrics_address.reset();
      reader.warn({}, fmt::format("{} listens on {}, so metrics are not served; name a port with "
                                  "observability.metrics_port",
                                  (*other)->owner, (*other)->address.text()));
    } else {
      reader.mistake(claim.place,
                     fmt::format("{} wants {}, and so does {} on line {}", claim.owner,
                                 address.text(), (*other)->owner, (*other)->place.line));
    }
  }
}

void check_order(Reader& reader, std::vector<ServiceDraft> const& services) {
  std::vector<std::string_view> names;
  for (ServiceDraft const& service : services) names.push_back(*service.name);
  for (ServiceDraft const& service : services) {
    for (std::size_t i = 0; i < service.value.after.size(); ++i) {
      std::string const& name = service.value.after[i];
      if (std::ranges::find(names, name) != names.end()) continue;
      reader.mistake(service.after_places[i],
                     fmt::format("service.after: there is no service \"{}\"{}", name,
                                 did_you_mean(name, names)));
    }
  }
  CircleFinder finder(services);
  std::set<std::string> told;
  for (ServiceDraft const& service : services) {
    if (told.contains(*service.name)) continue;
    std::vector<std::string> const circle = finder.find(*service.name);
    if (circle.empty()) continue;
    told.insert(circle.begin(), circle.end());
    Place const place = service.after_places.empty() ? service.place : service.after_places[0];
    reader.mistake(place,
                   fmt::format("service.after: {} -> {} is a circle; none of them could start",
                               fmt::join(circle, " -> "), circle[0]));
  }
}

}  // namespace aether::config
