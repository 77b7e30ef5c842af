# SPDX-License-Identifier: Apache-2.0
"""Figures as text: columns as wide as they must be."""

import math
import sys


def table(title, columns, rows):
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in texts)) for i, column in enumerate(columns)]
    print(f"\n{title}")
    print("  ".join(column.ljust(width) for column, width in zip(columns, widths)))
    for row in texts:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)))
    sys.stdout.flush()


def quantile(values, part):
    """The smallest value that so large a part of them is not above."""
    ordered = sorted(values)
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)]


def spread(values_us):
    """What is told of many latencies."""
    return {"count": len(values_us), "p50_us": quantile(values_us, 0.5), "p99_us": quantile(values_us, 0.99),
            "max_us": max(values_us)}


def milliseconds(us):
    return f"{us / 1000:.2f}"
