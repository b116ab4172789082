"""export-kv from a bundle: traces equal a forward pass in NumPy."""

import os

import numpy as np
import pytest

from numpy_decoder import forward
from tiny_models import byte_vocabulary, tiny_decoder, write_tiny
from trace_reader import read_trace
from turboquant_tools import export_kv
from turboquant_tools.bundle_kv_source import BundleSource
from turboquant_tools.cli import main
from turboquant_tools.export_gguf import export_gguf

VOCABULARY = len(byte_vocabulary()["tokenizer.ggml.tokens"])
TEXT = "The quick brown fox jumps over it."  # 34 bytes, none of them mergeable
ATOL = 1e-4


@pytest.fixture(name="exported")
def fixture_exported(tmp_path):
    """Exports a tiny decoder of a family and runs export-kv on it."""

    def run(family, *options, text=TEXT, suffix=".txt", decoder=None):
        decoder = decoder or tiny_decoder(family, VOCABULARY)
        bundle = tmp_path / "bundle"
        export_gguf(write_tiny(tmp_path / "tiny.gguf", decoder), bundle, replace=True)
        (tmp_path / f"text{suffix}").write_text(text, encoding="utf-8")
        output = str(tmp_path / "out" / "kv.st")
        code = main(["export-kv", "--bundle", str(bundle), "--output", output,
                     *(str(tmp_path / f"text{suffix}") if part == "TEXT" else part
                       for part in options)])
        return decoder, code

    return run


def ids_of(text):
    characters = {token: i for i, token in enumerate(byte_vocabulary()["tokenizer.ggml.tokens"])}
    return np.array([characters["Ġ" if letter == " " else letter] for letter in text])


def test_several_heads_of_several_layers(exported, tmp_path, capsys):
    decoder, code = exported("llama", "--text", "TEXT", "--layers", "1,0", "--heads", "0,1",
                             "--max-tokens", "10", "--query-stride", "4", "--suite", "foxes")
    assert code == 0 and capsys.readouterr().out == f"{tmp_path}/out/kv.st\n"
    assert os.listdir(tmp_path / "out") == ["kv.st"]
    tensors, metadata = read_trace(tmp_path / "out" / "kv.st")
    assert len(tensors) == 2 * 2 * 4
    for sample in range(3):  # 34 tokens are three samples of 10
        _, layers = forward(decoder, ids_of(TEXT)[10 * sample:10 * sample + 10])
        for layer, (keys, values, queries) in enumerate(layers):
            for head in range(2):
                prefix = f"layers.{layer}.heads.{head}."
                np.testing.assert_allclose(tensors[prefix + "keys"][sample], keys[head], atol=ATOL)
                np.testing.assert_allclose(tensors[prefix + "values"][sample], values[head],
                                           atol=ATOL)
                asked = queries[2 * head:2 * head + 2, [0, 4, 8, 9]].reshape(8, -1)
                np.testing.assert_allclose(tensors[prefix + "queries"][sample], asked, atol=ATOL)
                assert tensors[prefix + "query_positions"][sample].tolist() == [0, 4, 8, 9] * 2
    for key, text in {"model": "tiny llama", "suite": "foxes", "rope": "post",
                      "rope_theta": "10000", "rope_pairing": "half", "rotary_dim": "8",
                      "first_position": "0",
                      "format": "turboquant.trace", "format_version": "1"}.items():
        assert metadata[key] == text
    assert "layer" not in metadata


def test_all_layers_and_heads(exported, tmp_path):
    assert exported("gemma3", "--text", "TEXT", "--layers", "0,1,2", "--heads", "all",
                    "--max-tokens", "5")[1] == 0
    tensors, _ = read_trace(tmp_path / "out" / "kv.st")
    assert {name.rsplit(".", 1)[0] for name in tensors} == {
        f"layers.{layer}.heads.{head}" for layer in range(3) for head in range(2)}
    assert exported("llama", "--text", "TEXT", "--layers", "all", "--max-tokens", "5")[1] == 0
    tensors, _ = read_trace(tmp_path / "out" / "kv.st")
    assert "layers.1.heads.0.keys" in tensors


def test_before_the_rotary_embedding(exported, tmp_path):
    decoder, code = exported("qwen2", "--text", "TEXT", "--layers", "0", "--heads", "1", "--rope",
                             "pre", "--max-tokens", "20", "--max-samples", "1", "--query-stride",
                             "1", "--query-heads", "first")
    assert code == 0
    tensors, metadata = read_trace(tmp_path / "out" / "kv.st")
    assert metadata["rope"] == "pre" and (metadata["layer"], metadata["head"]) == ("0", "1")
    states = decoder.weights["embedding.weight"][ids_of(TEXT)[:20]]
    states = states / np.sqrt(np.mean(states**2, axis=-1, keepdims=True) + 1e-5)
    states = states * decoder.weights["layers.0.attention_norm.weight"]

    def head(name, rows):
        return (states @ decoder.weights[f"layers.0.{name}.weight"].T +
                decoder.weights[f"layers.0.{name}.bias"])[:, rows]

    np.testing.assert_allclose(tensors["keys"][0], head("k_proj", slice(8, 16)), atol=ATOL)
    np.testing.assert_allclose(tensors["values"][0], head("v_proj", slice(8, 16)), atol=ATOL)
    np.testing.assert_allclose(tensors["queries"][0], head("q_proj", slice(16, 24)), atol=ATOL)


def test_prompts_of_several_lengths_have_a_file_each(exported, tmp_path, capsys):
    prompts = '{"prompt": "abcdef"}\n{"question": "fox"}\n\n{"text": "the", "id": 3}\n'
    decoder, code = exported("llama", "--prompts", "TEXT", text=prompts, suffix=".jsonl")
    assert code == 0
    names = [f"{tmp_path}/out/kv-{tokens}.st" for tokens in (3, 5)]  # "ab" is one token
    assert capsys.readouterr().out.split() == names
    short, _ = read_trace(tmp_path / "out" / "kv-3.st")
    assert short["keys"].shape == (2, 3, 8)
    assert short["query_positions"].tolist() == [[0, 2] * 2] * 2
    for sample, prompt in enumerate(("fox", "the")):
        keys = forward(decoder, ids_of(prompt))[1][0][0]
        np.testing.assert_allclose(short["keys"][sample], keys[0], atol=ATOL)


def test_local_and_global_layers_do_not_mix(exported, tmp_path, capsys):
    _, code = exported("gemma3", "--text", "TEXT", "--layers", "4,5", "--max-tokens", "8")
    assert code == 1
    assert "2 different rotary embeddings" in capsys.readouterr().err
    for layer, theta in (("4", "10000"), ("5", "1000000")):
        assert exported("gemma3", "--text", "TEXT", "--layers", layer, "--max-tokens", "8")[1] == 0
        assert read_trace(tmp_path / "out" / "kv.st")[1]["rope_theta"] == theta


def test_a_scaled_embedding_is_not_declared(exported, tmp_path):
    scaling = {"{}.rope.scaling.type": "linear", "{}.rope.scaling.factor": 8.0}
    decoder = tiny_decoder("qwen3", VOCABULARY, scaling_metadata=scaling)
    assert exported("qwen3", "--text", "TEXT", "--max-tokens", "8", decoder=decoder)[1] == 0
    _, metadata = read_trace(tmp_path / "out" / "kv.st")
    assert "rope" not in metadata and metadata["note"].endswith("RoPE scaled by linear")


@pytest.mark.parametrize("options, message", [
    (["--layers", "2"], "layers must be 0 to 1, got [2]"),
    (["--heads", "0,2"], "KV heads must be 0 to 1, got [0, 2]"),
    (["--query-stride", "0"], "--query-stride must be 1 or more, got 0"),
    (["--max-samples", "0"], "--max-samples must be 1 or more, got 0"),
    (["--max-tokens", "35"], "the text has 34 tokens, fewer than one sample of 35"),
])
def test_wrong_choices_leave_nothing(exported, tmp_path, capsys, options, message):
    options = ["--max-tokens", "10", *options]
    assert exported("llama", "--text", "TEXT", *options)[1] == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_more_tokens_than_the_context(exported, capsys):
    assert exported("llama", "--text", "TEXT", "--max-tokens", "60", text=TEXT * 2)[1] == 1
    assert "a sample has 60 tokens, the model's context is 48" in capsys.readouterr().err


def test_prompts_that_are_none(exported, capsys):
    assert exported("llama", "--prompts", "TEXT", text='{"prompt": "a"}\n{"answer": 42}\n',
                    suffix=".jsonl")[1] == 1
    assert "text.jsonl:2 is no JSON object with one of prompt" in capsys.readouterr().err
    assert exported("llama", "--prompts", "TEXT", text="\n \n")[1] == 1
    assert "there are no tokens to run" in capsys.readouterr().err


def test_a_failure_on_the_way_leaves_nothing(tmp_path):
    bundle = export_gguf(write_tiny(tmp_path / "tiny.gguf", tiny_decoder("llama", VOCABULARY)),
                         tmp_path / "bundle")
    source = BundleSource(bundle)
    source.capture = None
    with pytest.raises(TypeError):
        export_kv.export_kv(source, [[1, 2, 3]], tmp_path / "out" / "kv.st", export_kv.KvChoice())
    assert not os.listdir(tmp_path / "out")


def test_a_folder_that_is_no_bundle(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("a", encoding="utf-8")
    assert main(["export-kv", "--bundle", str(tmp_path), "--text", str(tmp_path / "text.txt"),
                 "--output", str(tmp_path / "kv.st")]) == 1
    assert "is not a bundle" in capsys.readouterr().err
