"""The program turboquant-tools: what it prints, and with which code it ends."""

import pathlib
import subprocess
import sys

import pytest

from tiny_models import byte_vocabulary, tiny_decoder, write_tiny
from turboquant_tools.cli import main

VOCABULARY = len(byte_vocabulary()["tokenizer.ggml.tokens"])


def test_export_prints_the_folder(tmp_path, capsys):
    path = write_tiny(tmp_path / "tiny.gguf", tiny_decoder("llama", VOCABULARY))
    assert main(["export-gguf", str(path), str(tmp_path / "bundle")]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'bundle'}\n" and printed.err == ""


@pytest.mark.parametrize("arguments, message", [
    (["nothing.gguf", "bundle"], "nothing.gguf is not a file"),
    (["nothing.gguf"], "needs MODEL.gguf and FOLDER"),
    (["a.gguf", "bundle", "--model-preset", "smollm2-135m-instruct"], "not both"),
    (["--model-preset", "smollm2-135m-instruct", "--force"], "need a FOLDER"),
])
def test_failures_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["export-gguf", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("turboquant-tools: ") and message in printed.err
    assert printed.err.count("\n") == 1 and printed.out == ""
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    path = write_tiny(tmp_path / "tiny.gguf", tiny_decoder("llama", VOCABULARY))
    assert main(["export-gguf", str(path), f"{path}/bundle"]) == 1
    assert "tiny.gguf" in capsys.readouterr().err


def test_models_are_listed(capsys):
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    for name in ("smollm2-135m-instruct", "gemma3-270m", "qwen2.5-0.5b-instruct", "distilgpt2"):
        assert f"{name}\n" in listed


def test_runs_as_a_module():
    python = pathlib.Path(__file__).resolve().parents[1]
    run = subprocess.run([sys.executable, "-m", "turboquant_tools", "--version"], cwd=python,
                         capture_output=True, text=True, check=True)
    assert run.stdout.count(".") == 2
