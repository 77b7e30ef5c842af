# SPDX-License-Identifier: Apache-2.0
"""Every fault point of jobs, journal and tools: what is tried there fails."""

from fault_sweep import sweep


def test_every_run_ends_or_waits_for_a_person_and_nothing_is_called_twice(tmp_path):
    sweep(tmp_path, "eio")
