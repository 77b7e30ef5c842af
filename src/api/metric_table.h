// SPDX-License-Identifier: Apache-2.0
// Every metric of the page, once: the page's HELP, docs/metrics.md and the test that each one is
// observed are made from here. Names and labels are part of the API.
#pragma once
#include <array>
#include <string_view>

namespace aether::api {

struct MetricInfo {
  std::string_view name;
  std::string_view type;  ///< "counter", "gauge" or "histogram".
  std::string_view labels;
  std::string_view meaning;
  std::string_view alert;  ///< What to be woken for; empty: for graphs.
};

inline constexpr std::array kMetrics{
    // The seeds' names.
    MetricInfo{"aeterna_handover_duration_seconds", "histogram", "service, phase",
               "Time of each phase of a swap", ""},
    MetricInfo{"aeterna_process_state", "gauge", "service",
               "0 running, 1 soaking, 2 draining, 3 pre-checking, 4 starting, 5 handshaking, 6 "
               "pending, 7 stopped, 8 failed",
               "8 for a minute"},
    MetricInfo{"aeterna_restarts_total", "counter", "service, reason",
               "Processes started again, by reason",
               "crash or watchdog, more than 3 in 10 minutes"},
    MetricInfo{
        "function_restores_total", "counter", "function, tier",
        "Instances that were there without an exec: thawed, cloned, or restored from an image", ""},
    MetricInfo{"function_restore_duration_seconds", "histogram", "function, tier",
               "From a request until it was given the instance that was made so for it", ""},
    MetricInfo{"function_cold_starts_total", "counter", "function",
               "Instances that were started by an exec", ""},
    MetricInfo{"warm_pool_size", "gauge", "function", "Instances made ahead and frozen", ""},
    // Services.
    MetricInfo{"aether_service_up", "gauge", "service",
               "1 while a process of the service serves, as /health has it", "0 for a minute"},
    MetricInfo{"aether_service_revision", "gauge", "service", "The revision that serves", ""},
    MetricInfo{"aether_instance_memory_bytes", "gauge", "service, revision",
               "Resident memory of a revision's process tree", "near the container's limit"},
    MetricInfo{"aether_fd_store_fds", "gauge", "service",
               "Descriptors that the program left with Aether", "near fd_store"},
    MetricInfo{"aether_fd_store_refused_total", "counter", "service",
               "Descriptors that were closed because the store was full", "any"},
    MetricInfo{"aether_log_lines_total", "counter", "service", "Lines that its programs wrote", ""},
    // Listeners.
    MetricInfo{"aether_accept_queue", "gauge", "service, listener",
               "Connections that wait to be accepted", "above 100 for a minute"},
    MetricInfo{"aether_accept_overflows_total", "counter", "service, listener",
               "Connections dropped because the accept queue was full", "any"},
    MetricInfo{"aether_rescued_connections_total", "counter", "service",
               "Connections that waited for a revision that died, carried to the one that serves",
               ""},
    MetricInfo{
        "aether_connections_given_total", "counter", "service, listener, revision",
        "New connections (or datagrams) that the kernel gave to the revision, where programs "
        "bind their own port (steer: bpf)",
        ""},
    // Swaps.
    MetricInfo{"aether_canary_percent", "gauge", "service",
               "Part of new connections that the revision has which serves, or soaks", ""},
    MetricInfo{"aether_swaps_total", "counter", "service, verdict", "Swaps, by verdict", ""},
    MetricInfo{"aether_rollbacks_total", "counter", "service, phase",
               "Swaps that were taken back, by the phase in which the reason showed", "any"},
    MetricInfo{"aether_rollback_seconds", "histogram", "service",
               "From the moment at which a new revision was known to be sick until new connections "
               "went to the old one again",
               ""},
    MetricInfo{"aether_blackout_seconds", "histogram", "service",
               "Time in which no revision could accept, per successful swap",
               "above what your clients bear"},
    MetricInfo{"aether_handoff_bytes_total", "counter", "service", "Memory moved between revisions",
               ""},
    MetricInfo{"aether_revisions", "gauge", "service", "Revisions of which a process lives",
               "max_revisions for an hour: old ones do not end"},
    MetricInfo{"aether_drain_connections", "gauge", "service, revision",
               "Connections that a draining revision still has", ""},
    MetricInfo{"aether_drain_remaining_seconds", "gauge", "service, revision",
               "Until a draining revision is ended", ""},
    // Functions.
    MetricInfo{"aether_function_up", "gauge", "function",
               "1 while the function can answer, be it from zero instances", "0 for a minute"},
    MetricInfo{"aether_function_revision", "gauge", "function", "The revision that serves", ""},
    MetricInfo{"aether_function_requests_total", "counter", "function, status",
               "Requests, by the status that the client saw", "5xx, more than a few a minute"},
    MetricInfo{"aether_function_request_duration_seconds", "histogram", "function",
               "From the first byte of a request to the last of its answer", ""},
    MetricInfo{"aether_shm_crc_errors_total", "counter", "function",
               "Records of handlers with `ipc: ring` that did not have their checksum", "any"},
    MetricInfo{"aether_shm_poisoned_total", "counter", "function, reason",
               "Instances ended because of what they wrote into their ring, by what was wrong",
               "any"},
    MetricInfo{"aether_function_refusals_total", "counter", "function, code",
               "Requests that Aether answered itself, by the answer's code", ""},
    MetricInfo{"aether_function_in_flight", "gauge", "function", "Requests that are being answered",
               ""},
    MetricInfo{"aether_function_queue_depth", "gauge", "function",
               "Requests that wait for an instance", "above 10 for a minute"},
    MetricInfo{"aether_function_instances", "gauge", "function, state", "Instances, by state", ""},
    MetricInfo{"aether_function_memory_bytes", "gauge", "function",
               "Memory of all its instances; what they share is counted once", ""},
    MetricInfo{"aether_start_duration_seconds", "histogram", "function, tier",
               "From a request until it was given the instance made for it, by how that was made",
               ""},
    MetricInfo{"aether_function_start_failures_total", "counter", "function, tier",
               "Instances that could not be started", "any"},
    MetricInfo{"aether_function_out_of_memory_total", "counter", "function",
               "Instances killed at memory_limit_mb", "any"},
    MetricInfo{"aether_function_crashes_total", "counter", "function",
               "Instances that ended by themselves", "more than 3 in 10 minutes"},
    // The program at the network interface (orchestrator.ebpf).
    MetricInfo{"aether_xdp_packets_total", "counter", "owner, port, protocol",
               "Packets that came to a port at the watched interface; the owner is "
               "function/NAME or service/NAME",
               ""},
    MetricInfo{"aether_xdp_bytes_total", "counter", "owner, port, protocol",
               "Bytes of these frames", ""},
    MetricInfo{"aether_xdp_dropped_total", "counter", "owner, port, protocol",
               "Packets that were dropped: their source had sent more than `rate`",
               "more than a few a second: somebody floods it"},
    MetricInfo{"aether_xdp_attached", "gauge", "interface, mode",
               "1 while the program is at the interface", ""},
    // Jobs.
    MetricInfo{"aether_jobs_opened_total", "counter", "",
               "Jobs that were submitted, by whomever, schedules and other jobs included", ""},
    MetricInfo{"aether_jobs_closed_total", "counter", "outcome", "Jobs that ended, by outcome",
               "failed, more than you are used to"},
    MetricInfo{"aether_job_steps_total", "counter", "outcome",
               "Attempts of steps that ended, by outcome", ""},
    MetricInfo{"aether_job_calls_total", "counter", "outcome",
               "Calls of tools that were settled, by outcome",
               "unknown, any: a person may have to say what became of it"},
    MetricInfo{"aether_journal_events_total", "counter", "", "Events that were recorded", ""},
    MetricInfo{"aether_journal_failures_total", "counter", "",
               "Batches of events that could not be recorded, as when the disk is full", "any"},
    MetricInfo{"aether_journal_append_seconds", "histogram", "",
               "From when a batch of events was handed over until it was durable", ""},
    MetricInfo{"aether_journal_store_bytes", "gauge", "", "Size of the store's files",
               "near what the disk has"},
    // Aether itself.
    MetricInfo{"aether_config_last_reload_successful", "gauge", "",
               "1 if the configuration could be read when it was read last", "0"},
    MetricInfo{"aether_reaped_total", "counter", "", "Orphans reaped as PID 1 or subreaper", ""},
    MetricInfo{"aether_api_requests_total", "counter", "route, status",
               "Requests to the API, by route and status", ""},
    MetricInfo{"aether_api_refusals_total", "counter", "code",
               "Requests refused for want of a right, by code", "more than a few a minute"},
    MetricInfo{"aether_api_connections", "gauge", "server",
               "Open connections of the control socket and of the ports", ""},
    MetricInfo{"aether_api_turned_away_total", "counter", "server",
               "Connections answered 503 because there were too many", "any"},
    MetricInfo{"aether_build_info", "gauge", "version", "Always 1", ""},
    MetricInfo{"process_start_time_seconds", "gauge", "", "When Aether started, as Unix time", ""},
    MetricInfo{"process_cpu_seconds_total", "counter", "", "CPU time of Aether itself", ""},
    MetricInfo{"process_resident_memory_bytes", "gauge", "", "Resident memory of Aether itself",
               "growth over days"},
    MetricInfo{"process_open_fds", "gauge", "", "Open descriptors of Aether itself",
               "above 80 % of process_max_fds"},
    MetricInfo{"process_max_fds", "gauge", "", "How many descriptors Aether may have", ""},
};

}  // namespace aether::api
