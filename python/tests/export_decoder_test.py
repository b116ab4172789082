"""export-decoder: bundles equal the model that transformers runs."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs python/requirements-torch.txt")
transformers = pytest.importorskip("transformers", reason="needs python/requirements-torch.txt")

from bundle_session import BundleSession
from tiny_huggingface import save_model, tiny_model, tokenizer
from turboquant_tools.cli import main
from turboquant_tools.errors import ToolError
from turboquant_tools.export_decoder import export_decoder
from turboquant_tools.presets import PRESETS, ModelPreset

IDS = np.random.default_rng(4).integers(0, 256, 23)
TEXT = "Zwölf Boxkämpfer,  12345 of them; they're <|end|> done.\n"
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 256}

MODELS = {
    "gpt2": ("gpt2", {}),
    "gpt2, not tied": ("gpt2", {"tie_word_embeddings": False, "n_inner": 40}),
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, biased": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, wide heads": ("llama", {"head_dim": 16}),
    "llama3": ("llama", {"rope_parameters": LLAMA3}),
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5,
                                             "factor": 4.0}}),
    "mistral, window": ("mistral", {"sliding_window": 6}),
    "qwen2": ("qwen2", {}),
    "qwen2, window": ("qwen2", {"use_sliding_window": True, "sliding_window": 5,
                                "max_window_layers": 1}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "gemma3": ("gemma3_text", {"head_dim": 16, "num_hidden_layers": 7, "sliding_window": 5,
                               "query_pre_attn_scalar": 24}),
}


def logits_of(model, ids):
    with torch.inference_mode():
        return model(torch.tensor(np.atleast_2d(ids))).logits.numpy()


@pytest.mark.parametrize("case", MODELS)
def test_bundle_equals_the_model(tmp_path, case):
    kind, changes = MODELS[case]
    model = save_model(tmp_path / "model", tiny_model(kind, **changes))
    bundle = export_decoder(tmp_path / "model", tmp_path / "bundle")
    session = BundleSession(bundle)
    expected = logits_of(model, IDS)
    assert np.std(expected) > 0.3
    actual, cache, _ = session.run(IDS)
    np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=0)
    first, past, _ = session.run(IDS[:9])
    second, _, _ = session.run(IDS[9:], past)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, atol=1e-4, rtol=0)
    with torch.inference_mode():
        theirs = model(torch.tensor(IDS[None]), use_cache=True).past_key_values
    np.testing.assert_allclose(cache[0][:, :, -4:], theirs.layers[0].keys.numpy()[:, :, -4:],
                               atol=1e-5)


@pytest.mark.parametrize("case", MODELS)
def test_config_builds_the_same_model(tmp_path, case):
    kind, changes = MODELS[case]
    model = save_model(tmp_path / "model", tiny_model(kind, **changes))
    bundle = export_decoder(tmp_path / "model", tmp_path / "bundle")
    config = transformers.AutoConfig.from_pretrained(bundle)
    rebuilt = transformers.AutoModelForCausalLM.from_config(config).eval()
    rebuilt.load_state_dict(model.state_dict())
    np.testing.assert_allclose(logits_of(rebuilt, IDS), logits_of(model, IDS), atol=1e-6)


def test_half_precision_weights_are_widened(tmp_path):
    save_model(tmp_path / "model", tiny_model("llama").to(torch.bfloat16))
    session = BundleSession(export_decoder(tmp_path / "model", tmp_path / "bundle"))
    wide = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model",
                                                             dtype=torch.float32)
    expected = logits_of(wide, IDS)
    np.testing.assert_allclose(session.run(IDS)[0], expected, atol=1e-4, rtol=0)


def test_tokenizer_and_settings(tmp_path):
    save_model(tmp_path / "model", tiny_model("llama"))
    bundle = export_decoder(tmp_path / "model", tmp_path / "bundle", positions=40)
    ours = transformers.AutoTokenizer.from_pretrained(bundle)
    assert ours(TEXT)["input_ids"] == tokenizer().encode(TEXT).ids
    assert (ours.bos_token, ours.eos_token) == ("<|begin|>", "<|end|>")
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    assert (config["bos_token_id"], config["eos_token_id"]) == (256, 257)
    assert config["max_position_embeddings"] == 40


@pytest.mark.parametrize("kind, changes, message", [
    ("llama", {"hidden_act": "relu"}, "activation 'relu' is not supported"),
    ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0,
                                   "original_max_position_embeddings": 64}}, "of type 'yarn'"),
    ("gemma3_text", {"head_dim": 8, "attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
])
def test_models_that_cannot_be_exported(tmp_path, kind, changes, message):
    save_model(tmp_path / "model", tiny_model(kind, **changes))
    with pytest.raises(ToolError, match=message):
        export_decoder(tmp_path / "model", tmp_path / "bundle")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_other_families_are_named(tmp_path):
    config = transformers.GPTNeoXConfig(vocab_size=258, hidden_size=32, num_hidden_layers=1,
                                        num_attention_heads=4, intermediate_size=48)
    save_model(tmp_path / "model", transformers.GPTNeoXForCausalLM(config))
    with pytest.raises(ToolError, match="of type 'gpt_neox'; supported are llama"):
        export_decoder(tmp_path / "model", tmp_path / "bundle")


def test_a_preset_names_a_model(tmp_path, monkeypatch, capsys):
    save_model(tmp_path / "model", tiny_model("llama"))
    preset = ModelPreset("tiny", "none", str(tmp_path / "model"))
    monkeypatch.setitem(PRESETS, "tiny", preset)
    bundle = str(tmp_path / "bundle")
    assert main(["export-decoder", "--model-preset", "tiny", bundle]) == 0
    assert capsys.readouterr().out == f"{bundle}\n"
    manifest = json.loads((tmp_path / "bundle" / "turboquant_bundle.json").read_text("utf-8"))
    assert manifest["source"]["model"] == preset.hub_id
    (tmp_path / "text.txt").write_text("some text", encoding="utf-8")
    trace = str(tmp_path / "kv.safetensors")
    assert main(["export-kv", "--model-preset", "tiny", "--prompts", str(tmp_path / "text.txt"),
                 "--output", trace]) == 0
    assert capsys.readouterr().out == f"{trace}\n"


def test_a_model_that_is_not_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["export-decoder", str(tmp_path / "nothing"), str(tmp_path / "bundle")]) == 1
    assert "nothing cannot be loaded" in capsys.readouterr().err
    assert main(["export-decoder", str(tmp_path / "bundle")]) == 1
    assert "either MODEL or --model-preset" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
