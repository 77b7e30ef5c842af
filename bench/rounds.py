# SPDX-License-Identifier: Apache-2.0
"""Rounds with and without, in turns: what else happens on a machine hits both, and one bad moment no median."""

import statistics

LATENCIES = ("p50_us", "p99_us", "p999_us", "max_us")


def middle(runs):
    """What a run of several rounds says: the sums of what was counted, the medians of the latencies."""
    counted = {key: sum(run[key] for run in runs) for key, value in runs[0].items()
               if isinstance(value, int) and key not in LATENCIES}
    medians = {key: round(statistics.median(run[key] for run in runs)) for key in LATENCIES}
    return {**counted, **medians, "rounds": runs}
