"""export-kv from a model of transformers: traces equal what hooks on its projections and its own
cache see."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs python/requirements-torch.txt")
transformers = pytest.importorskip("transformers", reason="needs python/requirements-torch.txt")

from tiny_huggingface import save_model, tiny_model, tokenizer
from trace_reader import read_trace
from turboquant_tools.cli import main

TEXT = "Sphinx of black quartz, judge my vow.\nHow vexingly quick daft zebras jump!\nfox\n"


def run(tmp_path, *options):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return main(["export-kv", "--model", str(tmp_path / "model"), "--device", "cpu", "--output",
                 str(tmp_path / "kv.safetensors"), *options])


def ids_of(text):
    return torch.tensor([tokenizer().encode(text).ids])


def projected(model, ids, layer):
    """Outputs of q_proj and k_proj, or of the norms behind them, or of c_attn's thirds; of layer 1
    [heads, tokens, head_dim]."""
    seen = {}
    attention = (model.transformer.h if hasattr(model, "transformer") else
                 model.model.layers)[layer]
    attention = attention.attn if hasattr(attention, "attn") else attention.self_attn
    names = [name for name in ("q_norm", "k_norm", "c_attn") if hasattr(attention, name)]
    names = names or ["q_proj", "k_proj"]
    hooks = [getattr(attention, name).register_forward_hook(
        lambda _, __, output, name=name: seen.update({name: output.detach()})) for name in names]
    with torch.inference_mode():
        cache = model(ids, use_cache=True).past_key_values.layers[layer]
    for hook in hooks:
        hook.remove()
    if names == ["c_attn"]:
        query, key = seen["c_attn"].split(seen["c_attn"].shape[-1] // 3, dim=-1)[:2]
    else:
        query, key = seen[names[0]], seen[names[1]]
    dim = cache.keys.shape[-1]

    def heads(rows):
        rows = rows[0]
        if rows.ndim == 2:
            return rows.reshape(len(rows), -1, dim).transpose(0, 1).numpy()
        return (rows if rows.shape[1] == ids.shape[1] else rows.transpose(0, 1)).numpy()

    return heads(query), heads(key), cache.keys[0].numpy(), cache.values[0].numpy()


@pytest.mark.parametrize("kind, changes", [
    ("gpt2", {}), ("llama", {}), ("qwen3", {"head_dim": 16}),
    ("gemma3_text", {"head_dim": 16, "num_hidden_layers": 6, "sliding_window": 64}),
])
def test_behind_the_rotary_embedding(tmp_path, kind, changes):
    model = save_model(tmp_path / "model", tiny_model(kind, **changes))
    assert run(tmp_path, "--text", str(tmp_path / "text.txt"), "--layers", "1", "--heads", "1",
               "--max-tokens", "30", "--max-samples", "1", "--query-stride", "1") == 0
    tensors, metadata = read_trace(tmp_path / "kv.safetensors")
    query, _, keys, values = projected(model, ids_of(TEXT)[:, :30], 1)
    np.testing.assert_allclose(tensors["keys"][0], keys[1], atol=1e-5)
    np.testing.assert_allclose(tensors["values"][0], values[1], atol=1e-5)
    shared_by = len(query) // len(keys)
    queries = tensors["queries"][0].reshape(shared_by, 30, -1)
    mine = query[shared_by:2 * shared_by]
    if kind == "gpt2":
        assert "rope" not in metadata
        np.testing.assert_allclose(queries, mine, atol=1e-5)
    else:  # position 0 is not turned; elsewhere only the length is kept
        assert metadata["rope"] == "post" and metadata["rope_theta"] == "10000"
        np.testing.assert_allclose(queries[:, 0], mine[:, 0], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(queries, axis=-1), np.linalg.norm(mine, axis=-1),
                                   rtol=1e-5)
        assert np.abs(queries[:, 1:] - mine[:, 1:]).max() > 0.1


@pytest.mark.parametrize("kind, changes", [
    ("llama", {}), ("qwen2", {}), ("qwen3", {"head_dim": 16}),
    ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0}}),
])
def test_before_the_rotary_embedding(tmp_path, kind, changes):
    model = save_model(tmp_path / "model", tiny_model(kind, **changes))
    assert run(tmp_path, "--text", str(tmp_path / "text.txt"), "--layers", "1", "--heads", "0",
               "--max-tokens", "30", "--max-samples", "1", "--query-stride", "1", "--rope",
               "pre") == 0
    tensors, metadata = read_trace(tmp_path / "kv.safetensors")
    query, key, _, values = projected(model, ids_of(TEXT)[:, :30], 1)
    np.testing.assert_allclose(tensors["keys"][0], key[0], atol=1e-5)
    np.testing.assert_allclose(tensors["values"][0], values[0], atol=1e-5)
    np.testing.assert_allclose(tensors["queries"][0].reshape(2, 30, -1), query[:2], atol=1e-5)
    assert metadata.get("rope") == (None if changes.get("rope_parameters") else "pre")


def test_prompts_of_several_lengths(tmp_path, capsys):
    model = save_model(tmp_path / "model", tiny_model("llama"))
    assert run(tmp_path, "--prompts", str(tmp_path / "text.txt"), "--max-tokens", "35") == 0
    names = [f"{tmp_path}/kv-{tokens}.safetensors" for tokens in (3, 35)]
    assert capsys.readouterr().out.split() == names
    tensors, _ = read_trace(tmp_path / "kv-35.safetensors")
    assert tensors["keys"].shape == (2, 35, 8)
    for sample, line in enumerate(TEXT.splitlines()[:2]):
        keys = projected(model, ids_of(line)[:, :35], 0)[2]
        np.testing.assert_allclose(tensors["keys"][sample], keys[0], atol=1e-5)


def test_a_model_without_rotary_embedding_has_nothing_before_it(tmp_path, capsys):
    save_model(tmp_path / "model", tiny_model("gpt2"))
    assert run(tmp_path, "--prompts", str(tmp_path / "text.txt"), "--rope", "pre") == 1
    assert "has no rotary embedding, so there is no --rope pre" in capsys.readouterr().err
    assert not list(tmp_path.glob("kv*"))


def gpt_neox():
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(
        vocab_size=258, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64, bos_token_id=256, eos_token_id=257,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}))


def yarn():
    return tiny_model("llama", rope_parameters={
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0,
        "original_max_position_embeddings": 64})


@pytest.mark.parametrize("make", [gpt_neox, yarn])
def test_embeddings_that_are_not_known(tmp_path, capsys, make):
    model = save_model(tmp_path / "model", make())
    options = ["--text", str(tmp_path / "text.txt"), "--max-tokens", "20", "--max-samples", "1"]
    assert run(tmp_path, *options, "--rope", "pre") == 1
    assert "is not known here, so only --rope post" in capsys.readouterr().err
    assert run(tmp_path, *options) == 0
    tensors, metadata = read_trace(tmp_path / "kv.safetensors")
    with torch.inference_mode():
        cache = model(ids_of(TEXT)[:, :20], use_cache=True).past_key_values.layers[0]
    np.testing.assert_allclose(tensors["keys"][0], cache.keys[0, 0].numpy(), atol=1e-5)
    assert "rope" not in metadata
