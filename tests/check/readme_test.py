"""The C++ in README.md is code that is compiled and run: a part of tests/install/main.cc."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class ReadmeTest(unittest.TestCase):
    def test_cpp_blocks_are_compiled(self):
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        program = (ROOT / "tests/install/main.cc").read_text(encoding="utf-8")
        blocks = re.findall(r"```cpp\n(.*?)```", readme, re.DOTALL)
        self.assertTrue(blocks, "README.md shows no C++")
        for block in blocks:
            self.assertIn(block, program)

    def test_links_lead_somewhere(self):
        documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
        for document in documents:
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
                self.assertTrue((document.parent / link).exists(), f"{document.name}: {link}")


if __name__ == "__main__":
    unittest.main()
