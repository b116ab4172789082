"""Markdown tables of ours beside the peers'. usage: table.py FILE...

Reads the lines that the drivers of this folder print and the JSON of our own benchmarks; of equal
rows the fastest counts.
"""

import json
import re
import sys


def own_row(benchmark):
    name, *arguments = benchmark["run_name"].split("/")
    value = dict(argument.split(":") for argument in arguments if ":" in argument)
    bits = int(value.get("bits", value.get("key", 0)))
    row = {"bits": bits, "queries": int(value.get("queries", 0)),
           "rows": int(value.get("rows", value.get("tokens", 0)) or 0)}
    if name == "Encode":
        search = ", with the search" if value["search"] == "1" else ""
        rounds = "one round" if value["rounds"] == "1" else "two rounds"
        return {**row, "peer": f"**ours**, {rounds}{search}", "what": "encode", "rows": 0,
                "ns": benchmark["ns_per_row"], "bytes": 16 * bits + 2}
    if name == "Search":
        digits = "one digit" if value["digits"] == "1" else "two digits"
        return {**row, "peer": f"**ours**, {digits}", "what": "search",
                "ns": benchmark["ns_per_row"], "bytes": benchmark["bytes_per_row"]}
    if name == "Attention":
        kind = "f16" if bits == 16 else f"K{bits}V{value['value']}"
        return {**row, "peer": f"**ours**, {kind}", "what": "attention", "rows": int(value["tokens"]),
                "ns": benchmark["ns_per_query_token"],
                "bytes": benchmark["bytes_per_token"]}
    return None


def read(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if re.match(r'\s*{\s*"context"', text):
        runs = [run for run in json.loads(text)["benchmarks"] if run["run_type"] == "iteration"]
        return [row for row in map(own_row, runs) if row]
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def table(rows, what, columns):
    """columns: (head, predicate) pairs; a line per peer and size, fastest first by column one."""
    cells = {}
    for row in rows:
        if row["what"] != what:
            continue
        for index, (_, fits) in enumerate(columns):
            if not fits(row):
                continue
            line = cells.setdefault((row["peer"], round(row["bytes"])), {})
            line[index] = min(line.get(index, float("inf")), row["ns"])
    print(f"\n| {what} | bytes | " + " | ".join(head for head, _ in columns) + " |")
    print("|---" * (2 + len(columns)) + "|")
    for (peer, size), line in sorted(cells.items(), key=lambda item: (item[0][1], min(item[1].values()))):
        texts = [f"{line[i]:.3g}" if i in line else "" for i in range(len(columns))]
        print(f"| {peer} | {size} | " + " | ".join(texts) + " |")


def main():
    rows = [row for path in sys.argv[1:] for row in read(path)]
    table(rows, "encode", [("ns a row", lambda row: True)])
    table(rows, "search", [
        (f"{count:,} rows, {queries} quer{'y' if queries == 1 else 'ies'}",
         lambda row, count=count, queries=queries: (row["rows"], row["queries"]) == (count, queries))
        for count in (4096, 262144) for queries in (1, 8)])
    table(rows, "attention", [
        (f"{tokens:,} tokens", lambda row, tokens=tokens: row["rows"] == tokens)
        for tokens in (4096, 32768)])


main()
