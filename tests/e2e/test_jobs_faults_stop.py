# SPDX-License-Identifier: Apache-2.0
"""Every fault point of jobs, journal and tools: the process stands still there, and goes on or is killed."""

from fault_sweep import assert_all_met, sweep


def test_every_run_ends_or_waits_for_a_person_and_nothing_is_called_twice(tmp_path):
    points, met = sweep(tmp_path, "stop")
    assert_all_met(points, met)
