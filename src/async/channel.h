// SPDX-License-Identifier: Apache-2.0
// Channel<T>: a bounded queue between tasks. Loop thread only.
#pragma once
#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "async/event.h"
#include "async/task.h"
#include "base/check.h"

namespace aether::async {

/// Keep it alive while a task uses it (it is usually in a shared_ptr of both ends). First in, first
/// out; several senders or receivers are served in no particular order.
template <class T>
class Channel {
 public:
  explicit Channel(std::size_t capacity) : capacity_(capacity) {
    AETHER_CHECK(capacity > 0);
    room_.set();
  }

  /// Waits for room. False: the channel is closed, the value was dropped.
  [[nodiscard]] Task<bool> send(T value);
  /// Never waits. False: full or closed, the value was dropped.
  bool try_send(T value);
  /// Waits for a value. Nothing: the channel is closed and empty.
  [[nodiscard]] Task<std::optional<T>> receive();
  [[nodiscard]] std::optional<T> try_receive();
  /// No more values come; those inside can still be received.
  void close();

  [[nodiscard]] bool closed() const { return closed_; }
  [[nodiscard]] std::size_t size() const { return queue_.size(); }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }

 private:
  std::size_t capacity_;
  std::deque<T> queue_;
  bool closed_ = false;
  Event room_;   // set while a send would not wait
  Event ready_;  // set while a receive would not wait
};

template <class T>
bool Channel<T>::try_send(T value) {
  if (closed_ || queue_.size() >= capacity_) return false;
  queue_.push_back(std::move(value));
  if (queue_.size() >= capacity_) room_.reset();
  ready_.set();
  return true;
}

template <class T>
Task<bool> Channel<T>::send(T value) {
  while (!closed_ && queue_.size() >= capacity_) co_await room_.wait();
  co_return try_send(std::move(value));
}

template <class T>
std::optional<T> Channel<T>::try_receive() {
  if (queue_.empty()) return std::nullopt;
  std::optional<T> value(std::move(queue_.front()));
  queue_.pop_front();
  if (queue_.empty() && !closed_) ready_.reset();
  if (!closed_) room_.set();
  return value;
}

template <class T>
Task<std::optional<T>> Channel<T>::receive() {
  while (!closed_ && queue_.empty()) co_await ready_.wait();
  co_return try_receive();
}

template <class T>
void Channel<T>::close() {
  closed_ = true;
  room_.set();
  ready_.set();
}

}  // namespace aether::async
