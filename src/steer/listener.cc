// SPDX-License-Identifier: Apache-2.0
#include "steer/listener.h"

#include <sys/socket.h>

#include <algorithm>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "steer/fixed_steering.h"
#include "steer/queue.h"
#include "steer/reuseport_steering.h"
#include "steer/socket_address.h"
#include "steer/unix_steering.h"

namespace aether::steer {

struct ListenerGroup::State {
  ListenSpec spec;
  std::unique_ptr<Steering> steering;
  /// Steered: one for each revision, and perhaps one of revision 0, the spare for the next one.
  /// Otherwise: exactly one, of revision 0.
  std::vector<Lane> lanes;
  RevisionId steered;
  std::uint64_t drops_ended = 0;
  bool backlog_changed = false;  ///< The steering opens lanes with the one that it was made with.

  ~State() {
    if (steering) steering->close(lanes);
  }
  [[nodiscard]] bool has_lanes() const { return spec.mode == ListenMode::Steered; }
  [[nodiscard]] Transport transport() const { return spec.address.transport; }
  [[nodiscard]] Lane* find(RevisionId revision) {
    auto const wanted = has_lanes() ? revision : RevisionId{};
    auto const found = std::ranges::find(lanes, wanted, &Lane::revision);
    return found == lanes.end() ? nullptr : &*found;
  }
  /// The lane that receives: the only one, or the first one before any revision has come.
  [[nodiscard]] Lane* steered_lane() { return find(steered); }
  Status add_spare();
  Status drop_lane(Lane* lane);
  Status drop_spares();
  Status listen_again(Lane const& lane) const;
  [[nodiscard]] Lane* first_spare();
  Status replace_dead_lane(Lane& lane);
  Status replace_dead_lanes();
};

Status ListenerGroup::State::add_spare() {
  TRY_ASSIGN(auto lane, steering->open_lane());
  lanes.push_back(std::move(lane));
  if (backlog_changed) TRY(listen_again(lanes.back()));
  return {};
}

/// On a socket that listens this only changes its backlog (man 2 listen, inet_csk_listen_start).
Status ListenerGroup::State::listen_again(Lane const& lane) const {
  if (!spec.address.has_connections() || ::listen(lane.fd.get(), spec.backlog) == 0) return {};
  return fail(system_error("listen", spec.address.text()));
}

Status ListenerGroup::State::drop_lane(Lane* lane) {
  drops_ended += read_drops(lane->fd.get());
  auto const ended = steering->end_lane(*lane, steered_lane());
  lanes.erase(lanes.begin() + (lane - lanes.data()));
  return ended;
}

/// The spare in front of all others in the kernel's group: once that is steered to, the others can
/// go cleanly.
Lane* ListenerGroup::State::first_spare() {
  Lane* first = nullptr;
  for (Lane& lane : lanes) {
    if (lane.revision != RevisionId{}) continue;
    if (first == nullptr || steering->index_of(lane) < steering->index_of(*first)) first = &lane;
  }
  return first;
}

/// Each spare was needed for a moment only, and would stay behind after a burst of swaps. One that
/// cannot go cleanly is given to the next revision.
Status ListenerGroup::State::drop_spares() {
  for (std::size_t i = lanes.size(); i-- > 0;) {
    Lane* const steered_to = steered_lane();
    if (lanes[i].revision != RevisionId{} || steered_to == nullptr) continue;
    if (steering->ends_cleanly(lanes[i], *steered_to)) TRY(drop_lane(&lanes[i]));
  }
  return {};
}

/// The program of this lane shut it down. Its queue is gone; what comes later waits in a new one.
Status ListenerGroup::State::replace_dead_lane(Lane& lane) {
  if (steering->revive(lane)) return {};
  drops_ended += read_drops(lane.fd.get());
  bool const receives = &lane == steered_lane();
  log::warn("listener \"{}\": the program of revision {} shut its socket down; it is replaced",
            spec.name, lane.revision);
  if (!receives) return drop_lane(&lane);
  auto const revision = lane.revision;
  // The old one goes first, since a name that exists once (abstract) is free only then.
  TRY(steering->end_lane(lane, nullptr));
  auto opened = steering->open_lane();
  if (!opened) {
    lanes.erase(lanes.begin() + (&lane - lanes.data()));
    return fail(std::move(opened).error());
  }
  lane = std::move(*opened);
  lane.revision = revision;
  return steering->direct_to(lane);
}

Status ListenerGroup::State::replace_dead_lanes() {
  for (std::size_t i = lanes.size(); i-- > 0;)
    if (has_left_listen(lanes[i].fd.get(), transport())) TRY(replace_dead_lane(lanes[i]));
  return {};
}

ListenerGroup::ListenerGroup(std::unique_ptr<State> state) : state_(std::move(state)) {}
ListenerGroup::ListenerGroup(ListenerGroup&&) noexcept = default;
ListenerGroup& ListenerGroup::operator=(ListenerGroup&&) noexcept = default;
ListenerGroup::~ListenerGroup() = default;

Result<ListenerGroup> ListenerGroup::open(ListenSpec spec) {
  auto state = std::make_unique<State>();
  if (spec.address.abstract_name && spec.mode == ListenMode::Steered)
    spec.mode = ListenMode::Shared;
  if (spec.address.abstract_name) {
    auto steering = AbstractSteering::make(spec);
    TRY_ASSIGN(auto first, steering->open_lane());
    state->lanes.push_back(std::move(first));
    state->steering = std::move(steering);
  } else if (spec.address.is_unix()) {
    TRY_ASSIGN(auto opened, UnixSteering::open(spec));
    state->lanes.push_back(std::move(opened.first));
    state->steering = std::move(opened.steering);
  } else {
    TRY_ASSIGN(auto opened, ReuseportSteering::open(spec));
    state->lanes.push_back(std::move(opened.first));
    state->steering = std::move(opened.steering);
  }
  state->spec = std::move(spec);
  state->spec.address = state->steering->bound();
  return ListenerGroup(std::move(state));
}

Result<ListenerGroup> ListenerGroup::adopt(ListenSpec spec, os::UniqueFd fd) {
  TRY_ASSIGN(spec.address, local_address(fd.get()));
  int listens = 0;
  socklen_t length = sizeof(listens);
  getsockopt(fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &length);
  if (spec.address.has_connections() && listens == 0)
    return fail(ErrorCode::AddressInvalid,
                fmt::format("listener \"{}\": the socket given from outside on {} does not listen; "
                            "whoever makes it must call listen()",
                            spec.name, spec.address.text()));
  if (spec.mode == ListenMode::Steered) spec.mode = ListenMode::Shared;
  TRY_ASSIGN(auto const inode, inode_of(fd.get()));
  auto state = std::make_unique<State>();
  state->steering = std::make_unique<AdoptedSteering>(spec.address);
  state->lanes.push_back(Lane{.fd = std::move(fd), .inode = inode});
  state->spec = std::move(spec);
  return ListenerGroup(std::move(state));
}

std::string const& ListenerGroup::name() const {
  return state_->spec.name;
}
ListenMode ListenerGroup::mode() const {
  return state_->spec.mode;
}
Address ListenerGroup::bound() const {
  return state_->spec.address;
}
RevisionId ListenerGroup::steered() const {
  return state_->steered;
}

Result<int> ListenerGroup::lane_fd(RevisionId revision) {
  TRY(check());
  if (auto const* lane = state_->find(revision)) return lane->fd.get();
  if (state_->lanes.empty() || !state_->has_lanes()) {
    // The only lane could not be replaced when it died: the address may be free again by now.
    TRY(state_->add_spare());
    TRY(state_->steering->direct_to(state_->lanes.back()));
    state_->steered = {};
  }
  if (!state_->has_lanes()) return state_->lanes.back().fd.get();
  Lane* spare = state_->first_spare();
  bool const first = spare != nullptr && state_->steered == RevisionId{};
  if (spare == nullptr) {
    TRY(state_->add_spare());
    spare = &state_->lanes.back();
  }
  spare->revision = revision;
  if (first) state_->steered = revision;
  return spare->fd.get();
}

Status ListenerGroup::steer_to(RevisionId revision) {
  if (!state_->has_lanes()) return {};
  TRY(check());
  auto const* lane = state_->find(revision);
  if (revision == RevisionId{} || lane == nullptr)
    return fail(
        ErrorCode::NotFound,
        fmt::format("listener \"{}\": revision {} has no lane to steer to", name(), revision));
  (void)state_->steering->leave_rest(nullptr, {});
  TRY(state_->steering->direct_to(*lane));
  state_->steered = revision;
  return {};
}

Status ListenerGroup::split(Split const& split) {
  TRY(check());
  auto const* lane = state_->find(split.revision);
  auto const* rest = state_->find(split.other);
  if (lane == nullptr || rest == nullptr)
    return fail(ErrorCode::NotFound,
                fmt::format("listener \"{}\": revisions {} and {} cannot share it: not both have a "
                            "lane",
                            name(), split.revision, split.other));
  if (lane == rest || !state_->steering->leave_rest(rest, split))
    return fail(ErrorCode::Unsupported,
                fmt::format("listener \"{}\": its connections cannot be split between revisions; "
                            "weights are for steered TCP and UDP listeners",
                            name()));
  TRY(state_->steering->direct_to(*lane));
  state_->steered = split.revision;
  return {};
}

Status ListenerGroup::admit(RevisionId revision, std::uint16_t source_port) {
  if (!state_->has_lanes() || state_->transport() != Transport::Tcp) return {};
  Lane const* const guest = state_->find(revision);
  Lane const* const steered = state_->steered_lane();
  if (guest == nullptr || steered == nullptr) return {};
  state_->steering->admit(*guest, source_port);
  return state_->steering->direct_to(*steered);
}

Result<QueueDepth> ListenerGroup::queue(RevisionId revision) const {
  auto const* lane = state_->find(revision);
  if (lane == nullptr) return QueueDepth{};
  return read_queue(lane->fd.get(), state_->transport());
}

std::string ListenerGroup::unix_name(RevisionId revision) const {
  auto const* lane = state_->find(revision);
  if (lane == nullptr) return {};
  auto const address = local_address(lane->fd.get());
  if (!address) return {};
  return (address->abstract_name ? "@" : "") + address->path;
}

std::uint64_t ListenerGroup::socket_inode(RevisionId revision) const {
  auto const* lane = state_->find(revision);
  return lane == nullptr ? 0 : lane->inode;
}

Status ListenerGroup::retire(RevisionId revision) {
  if (!state_->has_lanes()) return {};
  TRY(check());
  auto* lane = state_->find(revision);
  if (lane == nullptr) return {};
  auto const* steered = state_->steered_lane();
  if (lane == steered)
    return fail(ErrorCode::RequestInvalid,
                fmt::format("listener \"{}\": revision {} still gets the new connections; steer to "
                            "another one first",
                            name(), revision));
  if (steered != nullptr && !state_->steering->ends_cleanly(*lane, *steered)) {
    TRY(state_->add_spare());
    lane = state_->find(revision);
  }
  TRY(state_->drop_lane(lane));
  return state_->drop_spares();
}

bool ListenerGroup::moves_by_itself(RevisionId revision) const {
  auto const* lane = state_->find(revision);
  auto const* steered = state_->steered_lane();
  if (lane == nullptr || steered == nullptr) return false;
  return state_->steering->moves_queue(*lane, *steered);
}

Result<os::UniqueFd> ListenerGroup::duplicate_lane(RevisionId revision) const {
  auto const* lane = state_->find(revision);
  if (lane == nullptr)
    return fail(ErrorCode::NotFound,
                fmt::format("listener \"{}\": revision {} has no lane", name(), revision));
  return os::duplicate(lane->fd.get());
}

Status ListenerGroup::set_backlog(int backlog) {
  if (backlog == state_->spec.backlog) return {};
  state_->spec.backlog = backlog;
  state_->backlog_changed = true;
  for (Lane const& lane : state_->lanes) TRY(state_->listen_again(lane));
  return {};
}

Status ListenerGroup::check() {
  TRY(state_->replace_dead_lanes());
  return state_->steering->reconcile(state_->lanes, state_->steered_lane());
}

std::uint64_t ListenerGroup::overflows() const {
  std::uint64_t drops = state_->drops_ended;
  for (auto const& lane : state_->lanes) drops += read_drops(lane.fd.get());
  return drops;
}

std::vector<LaneInfo> ListenerGroup::lanes() const {
  std::vector<LaneInfo> infos;
  auto const* steered = state_->steered_lane();
  for (auto const& lane : state_->lanes)
    infos.push_back({.revision = lane.revision,
                     .inode = lane.inode,
                     .steered = &lane == steered,
                     .index = state_->steering->index_of(lane)});
  for (auto const inode : state_->steering->foreign_sockets())
    infos.push_back({.inode = inode, .foreign = true});
  return infos;
}

}  // namespace aether::steer
