"""Tests of scripts/check_layers.py on small made-up trees."""

import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import check_layers  # noqa: E402


class LayersTest(unittest.TestCase):
    def breaches(self, files):
        """Breaches of a tree that holds these files and the headers they may name."""
        base = {
            "include/turboquant/error.h": "",
            "include/turboquant/rotation.h": "",
            "src/base/try.h": "",
            "src/math/sphere.h": "",
            "src/eval/report.h": "",
        }
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in (base | files).items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return check_layers.breaches(root)

    def assert_one_breach(self, files, words):
        found = self.breaches(files)
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])

    def test_downward_includes_pass(self):
        self.assertEqual([], self.breaches({
            "src/quantizers/rotation.cc": '#include "turboquant/rotation.h"\n'
                                          '#include "src/math/sphere.h"\n#include <vector>\n',
            "src/cli/main.cc": '#include "src/eval/report.h"\n#include "turboquant/rotation.h"\n',
            "src/kernels/simd.cc": '#include <hwy/highway.h>\n#include <immintrin.h>\n',
        }))

    def test_upward_include_is_named_with_its_line(self):
        self.assert_one_breach(
            {"src/base/a.cc": '\n#include "src/math/sphere.h"\n'},
            "src/base/a.cc:2: base may not include math")

    def test_siblings_do_not_include_each_other(self):
        self.assert_one_breach({"src/kernels/a.cc": '#include "src/math/sphere.h"\n'},
                               "kernels may not include math")

    def test_public_header_of_a_higher_layer_counts(self):
        self.assert_one_breach({"src/math/a.cc": '#include "turboquant/rotation.h"\n'},
                               "math may not include quantizers")

    def test_highway_outside_kernels(self):
        self.assert_one_breach({"src/math/a.cc": "#include <hwy/highway.h>\n"}, "src/kernels")

    def test_intrinsics_outside_kernels(self):
        self.assert_one_breach({"src/eval/a.cc": "__m512i x;\n"}, "belongs in src/kernels")
        self.assert_one_breach({"src/eval/a.cc": "#include <immintrin.h>\n"}, "src/kernels")

    def test_json_in_the_core(self):
        self.assert_one_breach({"src/quantizers/a.cc": "#include <nlohmann/json.hpp>\n"},
                               "src/storage")

    def test_public_header_stays_free_of_dependencies(self):
        self.assert_one_breach({"include/turboquant/trace.h": "void F(const nlohmann::json&);\n"},
                               "names nlohmann::")
        self.assert_one_breach({"include/turboquant/trace.h": "#include <nlohmann/json.hpp>\n"},
                               "may be included in")

    def test_public_header_includes_no_private_one(self):
        self.assert_one_breach({"include/turboquant/trace.h": '#include "src/base/try.h"\n'},
                               "private")

    def test_unknown_folder_and_header(self):
        self.assert_one_breach({"src/utils/a.h": ""}, "src/utils is no layer")
        self.assert_one_breach({"include/turboquant/all.h": ""}, "has no layer")

    def test_relative_and_missing_includes(self):
        self.assert_one_breach({"src/base/a.cc": '#include "try.h"\n'}, "path from the root")
        self.assert_one_breach({"src/base/a.cc": '#include "src/base/gone.h"\n'}, "does not exist")

    def test_comments_may_name_anything(self):
        self.assertEqual([], self.breaches({"src/math/a.cc": "// as _mm512_add_ps does\n"}))


if __name__ == "__main__":
    unittest.main()
