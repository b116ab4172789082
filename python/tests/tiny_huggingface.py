"""Random models of transformers, saved as folders: what a hub would give."""

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

SPECIAL = ["<|begin|>", "<|end|>"]
VOCABULARY = 258


def tokenizer():
    """Bytes, and two special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return made


def save_model(folder, model):
    """Writes model and tokenizer; weights are drawn wide, so that attention is not flat."""
    import torch
    import transformers

    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, 1.5 * parameter.shape[-1]**-0.5)
            elif "norm" in name or "ln_" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer(), bos_token=SPECIAL[0],
                                         eos_token=SPECIAL[1]).save_pretrained(folder)
    return model.eval()


def tiny_model(kind, **changes):
    """A model of transformers with random weights, by its model_type."""
    import transformers

    rotary = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
              "max_position_embeddings": 64, "bos_token_id": 256, "eos_token_id": 257,
              "pad_token_id": None}
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4,
                                         n_positions=64, bos_token_id=256, eos_token_id=257,
                                         **changes)
        return transformers.GPT2LMHeadModel(config)
    config_class, model_class = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "gemma3_text": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
    }[kind]
    return model_class(config_class(**(rotary | changes)))
