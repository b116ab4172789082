"""export-gguf: graphs equal a forward pass in NumPy, and broken files leave nothing behind."""

import json

import gguf
import numpy as np
import pytest

from bundle_session import BundleSession
from numpy_decoder import forward
from tiny_models import (CONTEXT, byte_vocabulary, gguf_metadata, gguf_tensors, tiny_decoder,
                         write_gguf, write_tiny)
from turboquant_tools.errors import ToolError
from turboquant_tools.export_gguf import export_gguf

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3")
VOCABULARY = len(byte_vocabulary()["tokenizer.ggml.tokens"])
IDS = np.random.default_rng(3).integers(0, VOCABULARY, 19)
TOLERANCE = 2e-5  # of float32 sums of at most 64 terms of order 1, through up to 7 layers


def exported(folder, decoder, quantized=None, **options):
    path = write_tiny(folder / "tiny.gguf", decoder, quantized)
    return export_gguf(path, folder / "bundle", **options)


def assert_equals_numpy(bundle, decoder):
    logits, seen = forward(decoder, IDS)
    actual, cache, queries = BundleSession(bundle).run(IDS, queries=True)
    assert np.std(logits) > 0.3  # else equality would say little
    np.testing.assert_allclose(actual[0], logits, atol=TOLERANCE * 5, rtol=0)
    for layer, (keys, values, asked) in enumerate(seen):
        np.testing.assert_allclose(cache[2 * layer][0], keys, atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(cache[2 * layer + 1][0], values, atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(queries[layer][0], asked, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_graph_equals_numpy(tmp_path, family):
    decoder = tiny_decoder(family, VOCABULARY)
    assert_equals_numpy(exported(tmp_path, decoder), decoder)


def test_untied_head_equals_numpy(tmp_path):
    decoder = tiny_decoder("llama", VOCABULARY, tied=False)
    bundle = exported(tmp_path, decoder)
    assert_equals_numpy(bundle, decoder)
    assert config(bundle)["tie_word_embeddings"] is False


def test_quantized_tensors_equal_numpy(tmp_path):
    decoder = tiny_decoder("qwen3", VOCABULARY)
    bundle = exported(tmp_path, decoder, gguf.GGMLQuantizationType.Q8_0)
    for name, weight in decoder.weights.items():
        if weight.ndim == 2:
            packed = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
            decoder.weights[name] = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
    assert_equals_numpy(bundle, decoder)


def test_linear_scaling_turns_global_layers_only(tmp_path):
    scaling = {"{}.rope.scaling.type": "linear", "{}.rope.scaling.factor": 8.0}
    decoder = tiny_decoder("gemma3", VOCABULARY, scaling_metadata=scaling,
                           frequency_divisors=np.full(8, 8.0))
    bundle = exported(tmp_path, decoder)
    assert_equals_numpy(bundle, decoder)
    assert config(bundle)["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}


def llama3_divisors(head_dim, theta, factor):
    """Llama 3's rule, wave by wave, as its authors give it: low 1, high 4, 8192 positions."""
    divisors = []
    for i in range(head_dim // 2):
        wave = 2 * np.pi * theta**(2 * i / head_dim)
        if wave < 8192 / 4:
            divisors.append(1.0)
        elif wave > 8192:
            divisors.append(factor)
        else:
            smooth = (8192 / wave - 1) / (4 - 1)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors)


def write_llama3(path, divisors):
    decoder = tiny_decoder("llama", VOCABULARY, theta=500000.0, frequency_divisors=divisors)
    tensors = gguf_tensors(decoder) | {"rope_freqs.weight": divisors.astype(np.float32)}
    write_gguf(path, "llama", gguf_metadata(decoder, byte_vocabulary()), tensors)
    return decoder


def test_llama3_factors_equal_numpy_and_reach_config(tmp_path):
    divisors = llama3_divisors(8, 500000.0, 32.0)
    assert len(set(divisors)) == 3  # short, between, long
    decoder = write_llama3(tmp_path / "tiny.gguf", divisors)
    bundle = export_gguf(tmp_path / "tiny.gguf", tmp_path / "bundle")
    assert_equals_numpy(bundle, decoder)
    assert config(bundle)["rope_scaling"] == {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192}


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_and_chunks_equal_the_whole(tmp_path, family):
    session = BundleSession(exported(tmp_path, tiny_decoder(family, VOCABULARY)))
    whole, cache, _ = session.run(IDS)
    first, past, _ = session.run(IDS[:7])
    second, past, _ = session.run(IDS[7:12], past)
    steps = [first[0], second[0]]
    for token in IDS[12:]:
        logits, past, _ = session.run([token], past)
        steps.append(logits[0])
    np.testing.assert_allclose(np.concatenate(steps), whole[0], atol=5 * TOLERANCE, rtol=0)
    for stepped, at_once in zip(past, cache):
        np.testing.assert_allclose(stepped, at_once, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_left_padding_changes_nothing(tmp_path, family):
    session = BundleSession(exported(tmp_path, tiny_decoder(family, VOCABULARY)))
    padded = np.stack([np.concatenate([[0] * 8, IDS[:11]]), IDS])
    mask = np.ones((2, 19), np.int64)
    mask[0, :8] = 0
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    logits, _, _ = session.run(padded, mask=mask, positions=positions)
    assert np.all(np.isfinite(logits))
    np.testing.assert_allclose(logits[0, 8:], session.run(IDS[:11])[0][0], atol=5 * TOLERANCE)
    np.testing.assert_allclose(logits[1], session.run(IDS)[0][0], atol=5 * TOLERANCE)


def config(bundle):
    return json.loads((bundle / "config.json").read_text(encoding="utf-8"))


def test_config_says_what_the_model_is(tmp_path):
    bundle = exported(tmp_path, tiny_decoder("llama", VOCABULARY, theta=5e5), name="some/model")
    assert config(bundle) == {
        "_name_or_path": "some/model", "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "torch_dtype": "float32", "vocab_size": VOCABULARY, "tie_word_embeddings": True,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 32, "head_dim": 8, "intermediate_size": 64, "hidden_act": "silu",
        "max_position_embeddings": CONTEXT, "rms_norm_eps": pytest.approx(1e-5),
        "attention_bias": False, "mlp_bias": False, "rope_theta": 5e5,
        "partial_rotary_factor": 1.0, "rope_scaling": None, "bos_token_id": 256,
        "eos_token_id": 257, "pad_token_id": None}
    generation = json.loads((bundle / "generation_config.json").read_text(encoding="utf-8"))
    assert generation == {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": None}


def test_config_of_a_sliding_window(tmp_path):
    settings = config(exported(tmp_path, tiny_decoder("gemma3", VOCABULARY)))
    assert settings["model_type"] == "gemma3_text"
    assert settings["layer_types"] == ["sliding_attention"] * 5 + ["full_attention",
                                                                    "sliding_attention"]
    assert (settings["sliding_window"], settings["rope_theta"],
            settings["rope_local_base_freq"]) == (4, 1e6, 1e4)


def test_partial_rotary_embedding(tmp_path):
    decoder = tiny_decoder("qwen2", VOCABULARY)
    metadata = gguf_metadata(decoder, byte_vocabulary()) | {"{}.rope.dimension_count": 4}
    write_gguf(tmp_path / "tiny.gguf", "qwen2", metadata, gguf_tensors(decoder))
    bundle = export_gguf(tmp_path / "tiny.gguf", tmp_path / "bundle")
    assert config(bundle)["partial_rotary_factor"] == 0.5
    session = BundleSession(bundle)
    _, here, _ = session.run([5, 6], positions=np.array([[0, 1]]))
    _, there, _ = session.run([5, 6], positions=np.array([[20, 21]]))
    np.testing.assert_array_equal(here[0][..., 4:], there[0][..., 4:])  # of layer 0
    assert np.all(np.abs(here[0][..., :4] - there[0][..., :4]).max(axis=(0, 1, 3)) > 0.1)


def test_max_positions_bounds_the_context(tmp_path):
    decoder = tiny_decoder("llama", VOCABULARY)
    bundle = exported(tmp_path, decoder, positions=19)
    assert config(bundle)["max_position_embeddings"] == 19
    assert_equals_numpy(bundle, decoder)
    with pytest.raises(Exception, match="out of data bounds"):
        BundleSession(bundle).run(np.zeros(20, np.int64))
    for positions in (0, CONTEXT + 1):
        with pytest.raises(ToolError, match=f"must be 1 to {CONTEXT}.* got {positions}"):
            export_gguf(tmp_path / "tiny.gguf", tmp_path / "other", positions=positions)


def test_a_bundle_is_replaced_only_when_asked(tmp_path):
    bundle = exported(tmp_path, tiny_decoder("llama", VOCABULARY))
    with pytest.raises(ToolError, match="is there already"):
        export_gguf(tmp_path / "tiny.gguf", bundle)
    other = tiny_decoder("qwen2", VOCABULARY)
    exported(tmp_path, other, replace=True)
    assert_equals_numpy(bundle, other)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "letter.txt").write_text("dear")
    with pytest.raises(ToolError, match="no bundle of ours"):
        export_gguf(tmp_path / "tiny.gguf", tmp_path / "precious", replace=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bundle", "precious", "tiny.gguf"]


def renamed(tensors, before, after):
    return {after if name == before else name: tensor for name, tensor in tensors.items()}


BROKEN = {
    "missing tensor": ({}, lambda all: renamed(all, "blk.1.ffn_up.weight", "blk.1.gone.weight"),
                       "tensor 'blk.1.ffn_up.weight' is missing"),
    "missing bias": ({}, lambda all: renamed(all, "blk.1.attn_k.bias", "blk.1.gone.bias"),
                     "tensor 'blk.1.attn_k.bias' is missing"),
    "no bias at all": ({}, lambda all: {name: tensor for name, tensor in all.items()
                                        if not name.endswith(".bias")},
                       "tensor 'blk.0.attn_[qkv].bias' is missing"),
    "wrong shape": ({}, lambda all: all | {"blk.0.attn_k.weight": np.zeros((32, 16), np.float32)},
                    r"'blk.0.attn_k.weight' has shape \[32, 16\], must be \[16, 32\]"),
    "unknown tensor": ({}, lambda all: all | {"blk.0.ffn_gate_inp.weight": np.zeros((2, 2), "f4")},
                       "1 tensors are of no use to a qwen2.*ffn_gate_inp"),
    "not finite": ({}, lambda all: all | {"output_norm.weight": np.full(32, np.nan, np.float32)},
                   "'output_norm.weight' has 32 numbers that are not finite"),
    "missing metadata": ({"{}.block_count": None}, None, "metadata 'qwen2.block_count' is missing"),
    "text for number": ({"{}.block_count": "two"}, None, "'qwen2.block_count' is 'two', not a"),
    "no heads": ({"{}.attention.head_count": 0}, None, "head_count' is 0, must be 1 or more"),
    "too many layers": ({"{}.block_count": 3}, None, "'blk.2.attn_norm.weight' is missing|blk.2"),
    "absurd layers": ({"{}.block_count": 2**31}, None, "2147483648 layers, but there are only"),
    "heads that do not divide": ({"{}.attention.head_count_kv": 3}, None, "no multiple of 3 KV"),
    "unknown scaling": ({"{}.rope.scaling.type": "yarn"}, None, "is scaled by 'yarn'"),
    "odd rotary dims": ({"{}.rope.dimension_count": 5}, None, "of 5 dims, must be even"),
    "unknown cut": ({"tokenizer.ggml.pre": "martian"}, None, "by 'martian'; supported are gpt-2"),
    "unknown tokenizer": ({"tokenizer.ggml.model": "bert"}, None, "tokenizer of kind 'bert'"),
    "too few tokens": ({"tokenizer.ggml.tokens": ["a", "b"]}, None, "2 tokens of 259 types"),
    "impossible merge": ({"tokenizer.ggml.merges": ["a z"]}, None, "merge 'a z' is not of two"),
    "special token": ({"tokenizer.ggml.eos_token_id": 999}, None, "is 999, but there are 259"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_whole(tmp_path, case):
    changes, change_tensors, message = BROKEN[case]
    decoder = tiny_decoder("qwen2", VOCABULARY)
    metadata = gguf_metadata(decoder, byte_vocabulary()) | changes
    metadata = {key: content for key, content in metadata.items() if content is not None}
    tensors = gguf_tensors(decoder)
    write_gguf(tmp_path / "tiny.gguf", "qwen2", metadata,
               change_tensors(tensors) if change_tensors else tensors)
    assert_refused(tmp_path, message)


def assert_refused(folder, message):
    with pytest.raises(ToolError, match=message):
        export_gguf(folder / "tiny.gguf", folder / "bundle")
    assert [entry.name for entry in folder.iterdir()] == ["tiny.gguf"]


def test_unknown_architecture_is_refused(tmp_path):
    decoder = tiny_decoder("qwen2", VOCABULARY)
    decoder.family = "mamba"
    write_tiny(tmp_path / "tiny.gguf", decoder)
    assert_refused(tmp_path, "architecture 'mamba'; supported are llama, qwen2, qwen3, gemma3")


def test_factors_that_are_not_llama3s_are_refused(tmp_path):
    write_llama3(tmp_path / "tiny.gguf", np.array([1.0, 2.0, 3.0, 4.0]))
    assert_refused(tmp_path, "off llama3's rule by")


def test_every_truncation_is_refused(tmp_path):
    path = write_tiny(tmp_path / "tiny.gguf", tiny_decoder("llama", VOCABULARY))
    whole = path.read_bytes()
    for length in [0, 3, 20, 200, 2000, 5000, *range(7000, len(whole), 9973), len(whole) - 64]:
        path.write_bytes(whole[:length])
        assert_refused(tmp_path, "is not a complete GGUF file")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ToolError, match="nothing.gguf is not a file"):
        export_gguf(tmp_path / "nothing.gguf", tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
