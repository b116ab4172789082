"""SmolLM2-135M-Instruct as a package brings it: the bundle equals Hugging Face's own class with
Hugging Face's own reading of the GGUF file. Fetches 93 MB unless they are in the cache; long."""

import os
import pathlib

import numpy as np
import pytest

if os.environ.get("TURBOQUANT_LONG_TESTS") != "1":
    pytest.skip("long: run with TURBOQUANT_LONG_TESTS=1", allow_module_level=True)
REASON = "needs python/requirements-torch.txt"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
pytest.importorskip("accelerate", reason=REASON)

import tokenizers
from tokenizers import pre_tokenizers

from bundle_session import BundleSession
from turboquant_tools.packaged_models import packaged_bundle, packaged_gguf

ROOT = pathlib.Path(__file__).resolve().parents[2]
PRESET = "smollm2-135m-instruct"
LANGUAGES = ["Съешь же ещё этих мягких французских булок, да выпей чаю.", "敏捷的棕色狐狸跳过懒狗。",
             "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich", "👩‍👩‍👧 e\u0301 ＡＢＣ",
             "<|im_start|>user\nWhat's 12345 + 678?<|im_end|>\n<|im_start|>assistant\n", " ",
             "\t\n\r\n"]


@pytest.fixture(scope="module", name="bundle")
def fixture_bundle():
    return packaged_bundle(PRESET)


@pytest.fixture(scope="module", name="tokenizer")
def fixture_tokenizer(bundle):
    return tokenizers.Tokenizer.from_file(str(bundle / "tokenizer.json"))


@pytest.fixture(scope="module", name="model")
def fixture_model(bundle):
    """LlamaForCausalLM of the bundle's config.json, with weights that transformers dequantizes."""
    path = packaged_gguf(PRESET)
    read = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name,
                                                             dtype=torch.float32)
    model = transformers.LlamaForCausalLM(transformers.AutoConfig.from_pretrained(bundle))
    model.load_state_dict(read.state_dict())
    return model.eval()


def test_logits_and_cache_equal_llama_for_causal_lm(bundle, tokenizer, model):
    text = (ROOT / "docs" / "algorithm.md").read_text(encoding="utf-8")
    ids = np.array(tokenizer.encode(text).ids[:320])
    assert len(ids) == 320
    with torch.inference_mode():
        expected = model(torch.tensor(ids[None]), use_cache=True)
    session = BundleSession(bundle)
    logits, cache, _ = session.run(ids[:300])
    steps = [logits]
    for token in ids[300:]:
        logits, cache, _ = session.run([token], cache)
        steps.append(logits)
    difference = np.abs(np.concatenate(steps, axis=1) - expected.logits.numpy())
    assert difference.max() < 1e-3
    for layer in range(30):
        theirs = expected.past_key_values.layers[layer]
        np.testing.assert_allclose(cache[2 * layer], theirs.keys.numpy(), atol=1e-3, rtol=0)
        np.testing.assert_allclose(cache[2 * layer + 1], theirs.values.numpy(), atol=1e-3, rtol=0)


def test_tokenizer_equals_transformers(bundle, tokenizer):
    path = packaged_gguf(PRESET)
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # What transformers makes of every GGUF file is GPT-2's way to cut a text; SmolLM2's own
    # tokenizer takes single digits out first.
    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), theirs.backend_tokenizer.pre_tokenizer])
    documents = [*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("src/kernels/*.h")]
    texts = [document.read_text(encoding="utf-8") for document in documents] + LANGUAGES
    assert sum(map(len, texts)) > 100_000
    for text in texts:
        ids = theirs(text)["input_ids"]
        assert tokenizer.encode(text).ids == ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == theirs.decode(ids)
    loaded = transformers.AutoTokenizer.from_pretrained(bundle)
    chat = [{"role": "user", "content": "Hello"}]
    assert loaded.apply_chat_template(chat, tokenize=False) == theirs.apply_chat_template(
        chat, tokenize=False)
