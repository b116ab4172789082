"""Tests of scripts/check_skips.py on reports as GoogleTest writes them."""

import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import check_skips  # noqa: E402

REPORT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite name="KernelsTest">
<testcase name="Dot/avx2" status="run" result="completed" classname="KernelsTest" />
<testcase name="Dot/amx" status="run" result="skipped" classname="KernelsTest">
<skipped message="kernels_test.cc:9&#x0A;no AMX here"/></testcase>
<testcase name="Sum" status="run" result="completed" classname="KernelsTest">
<failure message="a" type=""/></testcase>
<testcase name="Other" status="notrun" result="suppressed" classname="KernelsTest" />
</testsuite></testsuites>
"""


class SkipsTest(unittest.TestCase):
    def setUp(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "kernels.0.xml"
            path.write_text(REPORT, encoding="utf-8")
            self.cases = check_skips.read_cases(pathlib.Path(folder))

    def test_outcomes_and_reason(self):
        self.assertEqual(
            [("kernels/KernelsTest.Dot/avx2", "passed", ""),
             ("kernels/KernelsTest.Dot/amx", "skipped", "no AMX here"),
             ("kernels/KernelsTest.Sum", "failed", ""),
             ("kernels/KernelsTest.Other", "not run", "")],
            [tuple(case) for case in self.cases])

    def test_a_skip_nobody_allowed(self):
        found = check_skips.problems(self.cases, [])
        self.assertEqual(1, len(found))
        self.assertIn("kernels/KernelsTest.Dot/amx (no AMX here)", found[0])

    def test_an_allowed_skip(self):
        self.assertEqual([], check_skips.problems(self.cases, ["kernels/KernelsTest.*/amx"]))

    def test_an_allowance_for_no_test(self):
        allowed = ["kernels/KernelsTest.*/amx", "kernels/KernelsTest.Gone"]
        found = check_skips.problems(self.cases, allowed)
        self.assertEqual(["the list of allowed skips names no test: kernels/KernelsTest.Gone"], found)

    def test_a_folder_that_did_not_run_is_not_judged(self):
        allowed = ["kernels/KernelsTest.*/amx", "theory/Long.*"]
        self.assertEqual([], check_skips.problems(self.cases, allowed))


if __name__ == "__main__":
    unittest.main()
