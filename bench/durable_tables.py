# SPDX-License-Identifier: Apache-2.0
"""What the rounds of bench/durable.py say: medians, and ratios of the same round."""

import statistics

from tables import milliseconds, table

OURS = "Aether"
PEERS = ("Restate", "DBOS")


def middle(cells):
    """Of one subject's rounds: the medians, and the sums of what was counted."""
    found = {key: statistics.median(one[key] for one in cells) for key in ("steps_per_second", "processor_us")}
    for what in ("workflow", "step"):
        found[what] = {key: statistics.median(one[what][key] for one in cells) for key in ("p50_us", "p99_us")}
    for what in ("workflows", "effects", "twice", "missing"):
        found[what] = sum(one[what] for one in cells)
    return found


def ratio(rounds, ours, theirs, key):
    """Medians of what each round says: what else happens on the machine hits both of a round."""
    each, processor = [], []
    for one in rounds:
        our, their = one["cells"][ours][key], one["cells"][theirs][key]
        each.append(our["steps_per_second"] / their["steps_per_second"])
        processor.append(their["processor_us"] / our["processor_us"])
    return {"median": statistics.median(each), "least": min(each), "processor": statistics.median(processor)}


def summary(rounds):
    names = list(rounds[0]["cells"])
    keys = list(next(iter(rounds[0]["cells"].values()))) if names else []
    subjects = {name: {key: middle([one["cells"][name][key] for one in rounds]) for key in keys} for name in names}
    ratios = {}
    for name in names:
        peer, _, language = name.partition(" ")
        if peer not in PEERS or f"{OURS} {language}" not in names:
            continue
        ratios[name] = {key: ratio(rounds, f"{OURS} {language}", name, key) for key in keys}
    return {"busy": [one["busy"] for one in rounds], "fdatasync": [one["fdatasync"] for one in rounds],
            "subjects": subjects, "ratios": ratios, "rounds": rounds}  # fmt: skip


def called(key):
    return "64, pure" if key == "pure" else key


def print_tables(figures):
    syncs = statistics.median(one["p50_us"] for one in figures["fdatasync"])
    others = ", ".join(f"{one:.1f}" for one in figures["busy"])
    rows = []
    for name, cells in figures["subjects"].items():
        for key, one in cells.items():
            times = [milliseconds(one[what][part]) for what in ("step", "workflow") for part in ("p50_us", "p99_us")]
            rows.append([name, called(key), f"{one['steps_per_second']:.0f}", f"{one['processor_us']:.0f}", *times,
                         one["effects"], one["twice"], one["missing"]])
    versions = ", ".join(f"{name} {version}" for name, version in figures["machine"]["versions"].items())
    table(f"Durable steps, {figures['steps']} in a workflow, each made durable with a sync (ms; medians of "
          f"{len(figures['rounds'])} rounds; CPU of all but the judge for a step; one fdatasync {syncs:.0f} us; cores "
          f"that others used before each round: {others}; {versions})",
          ["", "at once", "steps/s", "CPU us", "step p50", "step p99", "workflow p50", "workflow p99", "effects",
           "twice", "missing"], rows)
    if not figures["ratios"]:
        return
    table("Aether on SQLite against it: steps/s, medians of the ratios in each round (the least; of processor time)",
          ["", *(called(key) for key in next(iter(figures["ratios"].values()), {}))],
          [[name, *(f"{one['median']:.1f}x ({one['least']:.1f}; {one['processor']:.1f})" for one in each.values())]
           for name, each in figures["ratios"].items()])
