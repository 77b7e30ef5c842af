# SPDX-License-Identifier: Apache-2.0
"""A strict reader of the Prometheus text exposition format 0.0.4: what it takes, a server takes."""

import math
import re

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)(?: (-?\d+))?")
_TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


class Family:
    def __init__(self, kind):
        self.type = kind
        self.samples = []  # (name, labels, value)

    def value(self, **labels):
        """The one sample with exactly these labels."""
        found = [value for _, has, value in self.samples if has == labels]
        assert len(found) == 1, f"{labels}: {self.samples}"
        return found[0]


def _labels(text):
    labels, at = {}, 0
    while at < len(text):
        match = _LABEL.match(text, at)
        assert match, f"not labels: {text}"
        assert match.group(1) not in labels, f"label twice: {text}"
        labels[match.group(1)] = match.group(2)
        at = match.end()
    return labels


def _check_histogram(name, family):
    series = {}
    for sample, labels, value in family.samples:
        key = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
        parts = series.setdefault(key, {"buckets": []})
        if sample == name + "_bucket":
            parts["buckets"].append((float(labels["le"].replace("+Inf", "inf")), value))
        else:
            assert sample in (name + "_sum", name + "_count"), sample
            parts[sample.removeprefix(name)] = value
    for key, parts in series.items():
        bounds = [bound for bound, _ in parts["buckets"]]
        counts = [count for _, count in parts["buckets"]]
        assert bounds == sorted(set(bounds)) and bounds[-1] == math.inf, (name, key, bounds)
        assert counts == sorted(counts), (name, key, counts)
        assert counts[-1] == parts["_count"] and "_sum" in parts, (name, key)


def parse(text):
    """Families by name. Fails on whatever the format does not allow."""
    assert text.endswith("\n"), "the last line must end too"
    families, helped, seen = {}, set(), set()
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert re.fullmatch(_NAME, name) and name not in helped, line
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in _TYPES and name not in families, line
            families[name] = Family(kind)
        elif line and not line.startswith("#"):
            match = _SAMPLE.fullmatch(line)
            assert match, f"not a sample: {line}"
            name, labels = match.group(1), _labels(match.group(2) or "")
            base = next((known for known in (name, re.sub(r"_(bucket|sum|count)$", "", name)) if known in families),
                        None)
            assert base, f"a sample before its TYPE: {line}"
            assert base == next(reversed(families)), f"lines of a family stand together: {line}"
            key = (name, tuple(sorted(labels.items())))
            assert key not in seen, f"twice: {line}"
            seen.add(key)
            families[base].samples.append((name, labels, float(match.group(3))))
    assert helped == set(families), "HELP and TYPE for each"
    for name, family in families.items():
        if family.type == "histogram":
            _check_histogram(name, family)
        if family.type == "counter":
            assert name.endswith("_total"), f"a counter's name ends in _total: {name}"
    return families


def gone_back(before, after):
    """Samples of counters and histograms that vanished or became smaller."""
    def counts(families):
        return {
            (sample, tuple(sorted(labels.items()))): value
            for family in families.values() if family.type in ("counter", "histogram")
            for sample, labels, value in family.samples
        }

    now = counts(after)
    return [(key, value, now.get(key)) for key, value in counts(before).items() if now.get(key, -1) < value]
