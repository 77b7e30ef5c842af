// SPDX-License-Identifier: Apache-2.0
// TemplateWorker of a build without the room clone (AETHER_CLONE): each instance is spawned.
#include <utility>

#include "functions/template_worker.h"

namespace aether::functions {

struct TemplateWorker::State {};

namespace {

Failure copies_nothing() {
  return fail(ErrorCode::Unsupported,
              "this build of Aether makes no copies of processes: it can on x86-64 only, with the "
              "CMake option AETHER_CLONE");
}

}  // namespace

Status try_copying() {
  return copies_nothing();
}

TemplateWorker::TemplateWorker() : thread_(1) {}
TemplateWorker::~TemplateWorker() = default;

async::Task<Status> TemplateWorker::freeze(pid_t /*pid*/, std::string /*ready_socket*/) {
  co_return copies_nothing();
}

async::Task<Result<FreshCopy>> TemplateWorker::copy(std::optional<std::uint16_t> /*port*/,
                                                    std::string /*group*/, Duration /*patience*/,
                                                    std::vector<LentDescriptor> /*lent*/) {
  co_return copies_nothing();
}

async::Task<bool> TemplateWorker::lives() {
  co_return false;
}

async::Task<void> TemplateWorker::drop() {
  co_return;
}

bool TemplateWorker::is_at_rest(pid_t /*pid*/) {
  return true;
}

}  // namespace aether::functions
