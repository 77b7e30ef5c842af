// SPDX-License-Identifier: Apache-2.0
// The members of each body, in canonical order: one list for writing and reading. Private to the
// codec. V is BodyWriter or BodyReader.
#pragma once
#include "jobs/run_event.h"

namespace aether::jobs {

template <class V>
void members(V& body, typename V::template Ref<Budget> budget) {
  body.number("calls", budget.calls);
  body.real("cost", budget.cost);
  body.number("steps", budget.steps);
  body.duration("time", budget.time);
  body.number("tokens", budget.tokens);
}
template <class V>
void members(V& body, typename V::template Ref<Usage> usage) {
  body.real("cost", usage.cost);
  body.number("tokens", usage.tokens);
}
template <class V>
void members(V& body, typename V::template Ref<Parent> parent) {
  body.text("path", parent.path);
  body.run("run", parent.run);
}

template <class V>
void members(V& body, typename V::template Ref<RunOpened> opened) {
  body.value("agent", opened.spec.agent);
  body.object("budget", opened.spec.budget);
  body.text("code_version", opened.code_version);
  body.text("concurrency_key", opened.spec.concurrency_key);
  body.number("concurrency_limit", opened.spec.concurrency_limit);
  body.time("deadline", opened.spec.deadline);
  body.object("forked_from", opened.forked_from);
  body.long_text("goal", opened.spec.goal);
  body.value("graph", opened.spec.graph);
  body.text("idempotency_key", opened.idempotency_key);
  body.value("input", opened.spec.input);
  body.text("name", opened.spec.name);
  body.time("not_before", opened.spec.not_before);
  body.object("parent", opened.parent);
  body.number("priority", opened.spec.priority);
  body.text("queue", opened.spec.queue);
  body.text("request_hash", opened.request_hash);
  body.text("schedule", opened.schedule);
  body.text("space", opened.spec.space);
}
template <class V>
void members(V& body, typename V::template Ref<RunId> id) {
  body.run("run", id);
}
template <class V>
void members(V& body, typename V::template Ref<RunClosed> closed) {
  body.long_text("error", closed.error);
  body.word("outcome", closed.outcome);
  body.value("output", closed.output);
}
template <class V>
void members(V& body, typename V::template Ref<StepOpened> step) {
  body.number("attempt", step.attempt);
  body.text("input_hash", step.input_hash);
  body.word("kind", step.kind);
  body.text("path", step.path);
}
template <class V>
void members(V& body, typename V::template Ref<StepClosed> step) {
  body.number("attempt", step.attempt);
  body.long_text("error", step.error);
  body.word("outcome", step.outcome);
  body.text("path", step.path);
  body.value("result", step.result);
}
template <class V>
void members(V& body, typename V::template Ref<EffectIntended> effect) {
  body.value("args", effect.args);
  body.text("args_hash", effect.args_hash);
  body.text("business_key", effect.business_key);
  body.text("effect", effect.effect);
  body.text("key", effect.key);
  body.text("path", effect.path);
  body.word("policy", effect.policy);
  body.text("token", effect.token);
  body.text("tool", effect.tool);
  body.number("turn", effect.turn);
}
template <class V>
void members(V& body, typename V::template Ref<EffectSettled> effect) {
  body.flag("amends", effect.amends);
  body.word("by", effect.by);
  body.text("effect", effect.effect);
  body.long_text("error", effect.error);
  body.word("outcome", effect.outcome);
  body.value("result", effect.result);
  body.flag("retryable", effect.retryable);
  body.number("turn", effect.turn);
  body.object("usage", effect.usage);
}
template <class V>
void members(V& body, typename V::template Ref<WaitOpened> wait) {
  body.time("deadline", wait.deadline);
  body.text("effect", wait.effect);
  body.word("kind", wait.kind);
  body.text("name", wait.name);
  body.text("path", wait.path);
  body.value("schema", wait.schema);
}
template <class V>
void members(V& body, typename V::template Ref<WaitClosed> wait) {
  body.text("by", wait.by);
  body.word("end", wait.end);
  body.text("path", wait.path);
  body.value("payload", wait.payload);
}
template <class V>
void members(V& body, typename V::template Ref<SignalReceived> signal) {
  body.text("idempotency_key", signal.idempotency_key);
  body.text("name", signal.name);
  body.value("payload", signal.payload);
}
template <class V>
void members(V& body, typename V::template Ref<RunControlled> control) {
  body.word("control", control.control);
  body.text("holder", control.holder);
  body.long_text("reason", control.reason);
  body.text("step", control.step);
  body.time("until", control.until);
}
template <class V>
void members(V& body, typename V::template Ref<AuditNoted> note) {
  body.text("action", note.action);
  body.text("decision", note.decision);
  body.long_text("detail", note.detail);
  body.text("target", note.target);
}

}  // namespace aether::jobs
