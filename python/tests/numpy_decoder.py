"""The forward pass of tiny_models in NumPy, float64: what the exported graphs are held to."""

import math

import numpy as np

from tiny_models import EPSILON, HIDDEN, KV_HEADS, QUERY_HEADS


def forward(decoder, ids):
    """Logits [tokens, vocabulary], and for each layer its keys, values and queries [heads, tokens,
    head_dim], keys and queries behind the rotary embedding."""
    weights = {name: weight.astype(np.float64) for name, weight in decoder.weights.items()}
    is_gemma = decoder.family == "gemma3"
    states = weights["embedding.weight"][ids]
    if is_gemma:
        states = states * math.sqrt(HIDDEN)
    seen = []
    for layer in range(decoder.layers):
        part = {name.split(".", 2)[2]: weight for name, weight in weights.items()
                if name.startswith(f"layers.{layer}.")}
        normed = _norm(states, part["attention_norm.weight"])
        attended, heads = _attention(decoder, layer, part, normed)
        seen.append(heads)
        if is_gemma:
            attended = _norm(attended, part["post_attention_norm.weight"])
        states = states + attended
        mixed = _mlp(part, _norm(states, part["mlp_norm.weight"]), is_gemma)
        if is_gemma:
            mixed = _norm(mixed, part["post_mlp_norm.weight"])
        states = states + mixed
    head = weights.get("head.weight", weights["embedding.weight"])
    return _norm(states, weights["norm.weight"]) @ head.T, seen


def _norm(states, weight):
    return states / np.sqrt(np.mean(states**2, axis=-1, keepdims=True) + EPSILON) * weight


def _attention(decoder, layer, part, states):
    tokens = len(states)

    def heads(name, count):
        rows = states @ part[f"{name}.weight"].T + part.get(f"{name}.bias", 0.0)
        return rows.reshape(tokens, count, decoder.head_dim).transpose(1, 0, 2)

    queries, keys = heads("q_proj", QUERY_HEADS), heads("k_proj", KV_HEADS)
    values = heads("v_proj", KV_HEADS)
    if "q_norm.weight" in part:
        queries, keys = _norm(queries, part["q_norm.weight"]), _norm(keys, part["k_norm.weight"])
    queries, keys = (_rotated(decoder, layer, rows) for rows in (queries, keys))
    attended = np.empty_like(queries)
    distance = np.arange(tokens)[:, None] - np.arange(tokens)[None, :]
    visible = distance >= 0
    if decoder.is_local(layer):
        visible &= distance < decoder.window
    for head in range(QUERY_HEADS):
        shared = head // (QUERY_HEADS // KV_HEADS)
        logits = queries[head] @ keys[shared].T / math.sqrt(decoder.head_dim)
        logits = np.where(visible, logits, -np.inf)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        attended[head] = shares / shares.sum(axis=-1, keepdims=True) @ values[shared]
    rows = attended.transpose(1, 0, 2).reshape(tokens, -1)
    return rows @ part["o_proj.weight"].T, (keys, values, queries)


def _rotated(decoder, layer, rows):
    """Each pair (i, i + head_dim / 2) as one complex number, turned by its angle."""
    half = decoder.head_dim // 2
    local = decoder.is_local(layer)
    frequencies = (decoder.theta_local if local else decoder.theta)**(-np.arange(half) / half)
    if not local and decoder.frequency_divisors is not None:
        frequencies = frequencies / decoder.frequency_divisors
    angles = np.arange(rows.shape[1])[:, None] * frequencies
    turned = (rows[..., :half] + 1j * rows[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def _mlp(part, states, is_gemma):
    gate = states @ part["gate_proj.weight"].T
    if is_gemma:
        gate = 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
    else:
        gate = gate / (1 + np.exp(-gate))
    return (gate * (states @ part["up_proj.weight"].T)) @ part["down_proj.weight"].T
