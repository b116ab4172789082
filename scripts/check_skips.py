#!/usr/bin/env python3
"""Lists the tests that were skipped, with their reasons, and fails on one that is not allowed.

Reads the XML reports that the test programs leave in build/PRESET/test-results. An allowed skip is
a line FOLDER/Suite.Test of the allowed file; * stands for any characters; # begins a comment.

Usage: check_skips.py [--allowed FILE] RESULTS_FOLDER...
"""

import argparse
import collections
import fnmatch
import pathlib
import sys
import xml.etree.ElementTree

Case = collections.namedtuple("Case", "name outcome reason")


def read_cases(folder):
    """All test cases reported in a folder, named FOLDER/Suite.Test."""
    cases = []
    for report in sorted(folder.glob("*.xml")):
        prefix = report.name.split(".")[0]
        for element in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
            outcome, reason = "passed", ""
            skipped = element.find("skipped")
            if element.get("status") == "notrun":
                outcome = "not run"  # another part of the same program runs it, or it is disabled
            elif element.find("failure") is not None:
                outcome = "failed"
            elif skipped is not None:
                outcome = "skipped"
                lines = (skipped.get("message") or "").strip().splitlines()
                reason = " ".join(lines[1:] if len(lines) > 1 else lines)
            name = f"{prefix}/{element.get('classname')}.{element.get('name')}"
            cases.append(Case(name, outcome, reason))
    return cases


def read_allowed(path):
    """The patterns of an allowed file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [pattern for line in lines if (pattern := line.split("#")[0].strip())]


def problems(cases, allowed):
    """What is wrong: skips nobody allowed, and allowances for tests that no longer exist."""
    found = []
    for case in cases:
        if case.outcome == "skipped":
            if not any(fnmatch.fnmatchcase(case.name, pattern) for pattern in allowed):
                found.append(f"not in the list of allowed skips: {case.name} ({case.reason})")
    names = {case.name for case in cases}
    folders = {name.split("/")[0] for name in names}
    for pattern in allowed:
        if pattern.split("/")[0] in folders and not fnmatch.filter(names, pattern):
            found.append(f"the list of allowed skips names no test: {pattern}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--allowed", type=pathlib.Path)
    parser.add_argument("results", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()

    cases = [case for folder in arguments.results for case in read_cases(folder)]
    if not cases:
        print("no test reports in " + ", ".join(map(str, arguments.results)))
        return 1
    for name, reason in sorted({(c.name, c.reason) for c in cases if c.outcome == "skipped"}):
        print(f"skipped {name}: {reason}")
    found = problems(cases, read_allowed(arguments.allowed)) if arguments.allowed else []
    for line in found:
        print(line)
    count = collections.Counter(case.outcome for case in cases)
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
