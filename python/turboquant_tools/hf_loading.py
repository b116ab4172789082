"""Loads models and tokenizers with transformers."""

import sys

import torch  # noqa: F401  before transformers, which imports without it and fails later
import transformers

from turboquant_tools.errors import ToolError

if not sys.stderr.isatty():
    transformers.utils.logging.disable_progress_bar()


def load_model(name, **options):
    """A causal language model in evaluation mode."""
    return _load(transformers.AutoModelForCausalLM, name, "model", **options).eval()


def load_tokenizer(name, **options):
    """A tokenizer that has a tokenizer.json."""
    tokenizer = _load(transformers.AutoTokenizer, name, "tokenizer", **options)
    if not getattr(tokenizer, "is_fast", False):
        raise ToolError(f"the tokenizer of {name} has no tokenizer.json")
    return tokenizer


def _load(kind, name, what, **options):
    try:
        return kind.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()
        raise ToolError(f"the {what} {name} cannot be loaded: "
                        f"{reason[0] if reason else type(error).__name__}") from error
