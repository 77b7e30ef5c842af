// SPDX-License-Identifier: Apache-2.0
#include "functions/proxy_poller.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "base/check.h"
#include "base/log.h"

namespace aether::functions {
namespace {

constexpr std::size_t kEventsPerTurn = 256;

os::UniqueFd or_stop(int fd, std::string_view call) {
  if (fd < 0) throw system_error(call);
  return os::UniqueFd(fd);
}

void replace(std::vector<Watcher*>& list, Watcher* watcher) {
  std::ranges::replace(list, watcher, static_cast<Watcher*>(nullptr));
}

}  // namespace

Watcher::~Watcher() {
  if (armed_ != Instant::max()) poller_.alarms_.erase({armed_, this});
  if (!queued_) return;
  replace(poller_.queue_, this);
  replace(poller_.waking_, this);
}

Poller::Poller(Clock const& clock)
    : clock_(clock),
      turn_(clock.now()),
      epoll_(or_stop(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      doorbell_(or_stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  or_throw(watch(doorbell_.get(), doorbell_readiness_));
}

Poller::~Poller() {
  dead_.clear();
}

Status Poller::watch(int fd, Readiness& readiness) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &readiness;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return fail(system_error("epoll_ctl"));
  return {};
}

void Poller::unwatch(int fd) {
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Poller::wake(Watcher& watcher) {
  if (watcher.queued_) return;
  watcher.queued_ = true;
  queue_.push_back(&watcher);
}

void Poller::set_alarm(Watcher& watcher, Instant when) {
  watcher.alarm_ = when;
  // An alarm that is put off, as most are, stays where it is, and finds that out when it rings.
  if (when >= watcher.armed_) return;
  if (watcher.armed_ != Instant::max()) alarms_.erase({watcher.armed_, &watcher});
  watcher.armed_ = when;
  alarms_.emplace(when, &watcher);
}

bool Poller::post(std::function<void()> work) {
  {
    std::scoped_lock const lock(mutex_);
    if (stopped_) return false;
    posted_.push_back(std::move(work));
    if (posted_.size() > 1) return true;  // the bell was rung
  }
  std::uint64_t const one = 1;
  ssize_t const written = ::write(doorbell_.get(), &one, sizeof(one));
  AETHER_CHECK(written == sizeof(one) || errno == EAGAIN);
  return true;
}

void Poller::stop() {
  {
    std::scoped_lock const lock(mutex_);
    stopped_ = true;
  }
  std::uint64_t const one = 1;
  ssize_t const written = ::write(doorbell_.get(), &one, sizeof(one));
  AETHER_CHECK(written == sizeof(one) || errno == EAGAIN);
}

void Poller::note(Readiness& readiness, std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) readiness.writable = true;
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readiness.readable = true;
  if ((events & EPOLLRDHUP) != 0) readiness.peer_closed = true;
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) readiness.broken = true;
  if (readiness.watcher != nullptr) wake(*readiness.watcher);
}

int Poller::wait_ms() const {
  if (!queue_.empty() || !dead_.empty()) return 0;
  if (alarms_.empty()) return -1;
  auto const left = alarms_.begin()->first - clock_.now();
  if (left <= Duration::zero()) return 0;
  auto const ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::min<std::int64_t>(ms, 60'000));
}

void Poller::run() {
  std::array<epoll_event, kEventsPerTurn> events{};
  while (true) {
    int const count = ::epoll_wait(epoll_.get(), events.data(), events.size(), wait_ms());
    AETHER_CHECK(count >= 0 || errno == EINTR, "epoll_wait: {}", errno);
    turn_ = clock_.now();
    for (int i = 0; i < count; ++i) {
      auto const& event = events[static_cast<std::size_t>(i)];
      note(*static_cast<Readiness*>(event.data.ptr), event.events);
    }
    if (doorbell_readiness_.readable) {
      doorbell_readiness_.readable = false;
      run_posted();
    }
    ring_alarms();
    wake_queued();
    // In two steps: what goes may bury more.
    auto const gone = std::exchange(dead_, {});
    std::scoped_lock const lock(mutex_);
    if (stopped_ && posted_.empty()) return;
  }
}

void Poller::run_posted() {
  std::uint64_t rung = 0;
  (void)!::read(doorbell_.get(), &rung, sizeof(rung));
  std::vector<std::function<void()>> work;
  {
    std::scoped_lock const lock(mutex_);
    work.swap(posted_);
  }
  for (auto& each : work) each();
}

void Poller::ring_alarms() {
  while (!alarms_.empty() && alarms_.begin()->first <= turn_) {
    Watcher* watcher = alarms_.begin()->second;
    alarms_.erase(alarms_.begin());
    watcher->armed_ = Instant::max();
    if (watcher->alarm_ > turn_) {
      if (watcher->alarm_ != Instant::max()) set_alarm(*watcher, watcher->alarm_);
      continue;
    }
    watcher->alarm_ = Instant::max();
    watcher->due();
  }
}

void Poller::wake_queued() {
  waking_.swap(queue_);
  for (std::size_t i = 0; i < waking_.size(); ++i) {
    Watcher* watcher = waking_[i];
    if (watcher == nullptr) continue;
    watcher->queued_ = false;
    waking_[i] = nullptr;
    watcher->woken();
  }
  waking_.clear();
}

}  // namespace aether::functions
