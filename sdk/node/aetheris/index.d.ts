// SPDX-License-Identifier: Apache-2.0

/** Milliseconds, or a text as `30s`, `5m`, `7d`. */
export type Duration = number | string;

/** What may happen after a crash in the middle: `once` (never again: a person is asked), `read` (again), `keyed`
 * (again with the same idempotencyKey()), `pure` (it touches nothing outside). */
export type Policy = 'once' | 'read' | 'keyed' | 'pure';

export interface ToolOptions {
  name?: string;
  policy?: Policy;
  /** Tries of read and keyed when they throw, and of any that throws NotExecuted. */
  attempts?: number;
  /** Before the second try; then twice as long. */
  pause?: Duration;
}

export interface StepOptions<A extends unknown[] = unknown[]> extends ToolOptions {
  args?: A;
  businessKey?: string;
}

export interface CallOptions {
  name?: string;
  policy?: 'once' | 'read' | 'keyed' | 'lookup';
  businessKey?: string;
  timeout?: Duration;
  attempts?: number;
  pause?: Duration;
}

export interface ModelOptions {
  messages?: unknown[];
  model?: string;
  full?: boolean;
  name?: string;
  policy?: 'once' | 'read';
  timeout?: Duration;
  [option: string]: unknown;
}

export interface Decision {
  approved: boolean;
  timedOut: boolean;
  end: string;
  by: string;
  form: unknown;
}

type Code<A extends unknown[] = any[], R = any> = (...args: A) => R;
type Steps<A extends unknown[], R> = (...args: A) => Promise<Awaited<R>>;

export class Context<I = any> {
  readonly jobId: string;
  readonly agent: string;
  readonly input: I;
  /** Aborted when the run has gone from this worker: nothing more of the code goes on. */
  readonly left: AbortSignal;
  /** Calls the function once and records what it gave. */
  step<A extends unknown[], R>(name: string, code: Code<A, R>, options?: StepOptions<A>): Promise<Awaited<R>>;
  step<A extends unknown[], R>(code: Code<A, R>, options?: StepOptions<A>): Promise<Awaited<R>>;
  /** Has Aether call one of its own tools: http, llm, a function, what `tools:` names. */
  call(tool: string, args?: unknown, options?: CallOptions): Promise<any>;
  /** The words of a model; with `full` all of its answer. */
  llm(prompt: string, options?: ModelOptions): Promise<any>;
  llm(options: ModelOptions): Promise<any>;
  /** Asks a person: `aether jobs approve`. True if it was yes. */
  approve(
    message: string,
    options: { form?: unknown; timeout?: Duration; name?: string; full: true },
  ): Promise<Decision>;
  approve(message: string, options?: { form?: unknown; timeout?: Duration; name?: string }): Promise<boolean>;
  /** The payload of the signal, which may have come before. TimedOut after that time. */
  wait(signal: string, options?: { timeout?: Duration }): Promise<any>;
  sleep(duration: Duration): Promise<void>;
  /** Another job below this one; its output. */
  run(agent: string | null, input?: unknown, options?: { name?: string; job?: object }): Promise<any>;
  now(): Promise<Date>;
  uuid(): Promise<string>;
  random(): Promise<number>;
}

export interface Agent<I = any> {
  readonly name: string;
  readonly code: (ctx: Context<I>, input: I) => unknown;
}

export function agent<I = any>(name: string, code: (ctx: Context<I>, input: I) => unknown): Agent<I>;
export function agent<I = any>(code: (ctx: Context<I>, input: I) => unknown): Agent<I>;

export function tool<A extends unknown[], R>(code: Code<A, R>): Steps<A, R>;
export function tool<A extends unknown[], R>(name: string, code: Code<A, R>): Steps<A, R>;
export function tool<A extends unknown[], R>(options: ToolOptions, code: Code<A, R>): Steps<A, R>;
export function tool<A extends unknown[], R>(name: string, options: ToolOptions, code: Code<A, R>): Steps<A, R>;
export function tool(options: ToolOptions): <A extends unknown[], R>(code: Code<A, R>) => Steps<A, R>;
export function tool(
  name: string,
  options?: ToolOptions,
): <A extends unknown[], R>(code: Code<A, R>) => Steps<A, R>;

/** Within a step of policy `keyed`: the same each time that the step is tried. */
export function idempotencyKey(): string | undefined;

export interface WorkerOptions {
  agents?: Agent[];
  url?: string;
  token?: string;
  name?: string;
  atOnce?: number;
  log?: (text: string) => void;
}

export class Worker {
  constructor(options?: WorkerOptions);
  run(): Promise<void>;
  stop(): void;
}

/** Runs this program's agents until SIGTERM or SIGINT. */
export function serve(options?: WorkerOptions): Promise<void>;

export class AetherisError extends Error {}
export class JobFailedError extends AetherisError {
  readonly jobId: string;
  readonly status: string;
}
export class TimeoutError extends AetherisError {}
/** A step has failed, and will fail the same way whenever this run's code runs again. */
export class StepFailed extends Error {
  constructor(path: string, message: string, options?: { cause?: unknown });
  readonly path: string;
  readonly reason: string;
}
/** Throw it in a step when nothing was sent: it may be tried again, whatever its policy. */
export class NotExecuted extends Error {}
/** Throw it in a step that failed and may be tried again, if its policy is read or keyed. */
export class Retryable extends Error {}
/** Throw it in a step when nobody knows whether it happened: a person is asked. */
export class Unknown extends Error {}
/** Nothing came within the time that was given. */
export class TimedOut extends Error {}

export const JobStatus: {
  readonly PENDING: 'pending';
  readonly RUNNING: 'running';
  readonly COMPLETED: 'completed';
  readonly FAILED: 'failed';
  readonly CANCELLED: 'cancelled';
  readonly WAITING: 'waiting';
  readonly RETRYING: 'retrying';
  readonly STUCK: 'stuck';
  readonly PAUSED: 'paused';
};

export interface SignalOptions {
  correlationKey?: string;
  idempotencyKey?: string;
}

export class Job<O = any> {
  readonly id: string;
  readonly agentId: string;
  readonly goal: string;
  readonly status: string;
  readonly output: O;
  readonly error: string;
  readonly raw: any;
  readonly isTerminal: boolean;
  readonly isWaiting: boolean;
  refresh(): Promise<this>;
  wait(options?: { timeout?: Duration; pollInterval?: Duration }): Promise<this>;
  signal(payload?: unknown, options?: SignalOptions): Promise<void>;
}

export class AetherisClient {
  constructor(baseUrl?: string, options?: { token?: string; timeout?: Duration });
  readonly baseUrl: string;
  run<O = any>(
    agentId: string,
    message?: unknown,
    options?: { idempotencyKey?: string; [member: string]: unknown },
  ): Promise<Job<O>>;
  getJob<O = any>(jobId: string): Promise<Job<O>>;
  listJobs(agentId?: string, options?: { status?: string; limit?: number }): Promise<Job[]>;
  signalJob(jobId: string, payload?: unknown, options?: SignalOptions): Promise<void>;
  health(): Promise<boolean>;
}
