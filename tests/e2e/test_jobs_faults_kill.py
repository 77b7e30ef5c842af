# SPDX-License-Identifier: Apache-2.0
"""Every fault point of jobs, journal and tools: the process dies there."""

from fault_sweep import assert_all_met, sweep


def test_every_run_ends_or_waits_for_a_person_and_nothing_is_called_twice(tmp_path):
    points, met = sweep(tmp_path, "kill")
    assert_all_met(points, met)
