#!/usr/bin/env python3
"""Holds the results of a real model to what is promised of its caches.

usage: check_real_model.py RESULTS.json     (turboquant benchmark --workload real-model --format json)

A row that no bound names is refused, and so is a bound's row that is missing when --all is given.
"""

import json
import sys

# (policy, key bits, value bits, window) -> largest mean KL, largest |change of perplexity|.
# SmolLM2-135M, news, three contexts of 512.
EXACT_PERPLEXITY = 29.762  # of Python's onnxruntime, which the exact mode is to equal
BOUNDS = {
    ("safe", 8, 8, 0): (0.001, 0.002),
    ("safe", 8, 4, 0): (0.010, 0.01),
    ("safe", 8, 4, 64): (0.010, 0.01),
    ("balanced", 4, 4, 0): (0.0145, 0.02),
    ("balanced", 4, 4, 64): (0.0016, 0.004),
    ("small", 3, 3, 0): (0.057, 0.04),
    ("small", 3, 3, 64): (0.0055, 0.006),
    ("paper", 4, 4, 0): (0.08, 0.1),
}


def key(row):
    return row["policy"], row["key_bits"], row["value_bits"], row["window"]


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--all"]
    with open(arguments[0], encoding="utf-8") as file:
        rows = [row for row in json.load(file)["rows"] if row.get("protocol") == "teacher-forced"]
    failures = []
    if not rows:
        failures.append("no teacher-forced row")
    for row in rows:
        if row["method"] == "exact":
            print(f"exact: perplexity {row['perplexity']:.3f} (Python: {EXACT_PERPLEXITY})")
            if abs(row["perplexity"] / EXACT_PERPLEXITY - 1) > 1e-4:
                failures.append(f"exact perplexity is {row['perplexity']}, not {EXACT_PERPLEXITY}")
            continue
        if key(row) not in BOUNDS:
            failures.append(f"no bound for {key(row)}")
            continue
        kl, change = BOUNDS[key(row)]
        is_change = row["perplexity"] / row["perplexity_exact"] - 1
        is_kept = row["kl_mean"] <= kl and abs(is_change) <= change
        line = (f"{row['policy']} K{row['key_bits']}V{row['value_bits']} window {row['window']}: KL "
                f"{row['kl_mean']:.5f} (at most {kl}), perplexity {is_change:+.2%} ({change:.1%})")
        print(line)
        if not is_kept:
            failures.append(line)
    if "--all" in sys.argv:
        failures += [f"missing: {name}" for name in BOUNDS.keys() - set(map(key, rows))]
    for failure in failures:
        print(f"check_real_model: {failure}", file=sys.stderr)
    sys.exit(1 if failures else 0)


main()
