"""A LLaMA from a GGUF file, which holds its shape, its weights and its tokenizer in one."""
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..text import split, tokenizer_json
from .architectures import QKV, SAME, Architecture, How, Place, both, layers
from .config import GPTConfig
from .gguf_file import read_gguf, read_tensor
from .pretrained import Undrawn, check_vocabulary, fill
from .rotary import frequencies
from .tensors import BrokenFile
from .transformer import GPT

NORMAL, CONTROL, OWN = 1, 3, 4                            # kinds of tokens: of the model, special, added by hand


def from_gguf(path, *, dtype=np.float32):
    """(model, tokenizer) of a GGUF file that holds a LLaMA: a GPT whose weights are `dtype`, whatever they are stored in.

    Tensors are read one at a time: memory holds the weights and one of them. A tensor that is missing, surplus, misshapen or
    broken off, another architecture, a vocabulary of another size: a BrokenFile that names it and the file.
    """
    path = Path(path)
    fields, tensors = read_gguf(path)
    kind = fields.get("general.architecture")
    if kind != "llama":
        raise BrokenFile(f"{path}: the architecture {kind!r} is not known here as GGUF; known is llama")
    try:
        config, tokenizer = shape(fields, tensors), tokenizer_of(fields)
        if "rope_freqs.weight" in tensors:
            config = as_llama3(config, read_tensor(path, tensors.pop("rope_freqs.weight")))
    except KeyError as error:
        raise BrokenFile(f"{path} says nothing about {error}, which a llama needs") from None
    except (TypeError, ValueError) as error:
        raise BrokenFile(f"{path}: {error}") from None
    check_vocabulary(tokenizer, config, path)
    model = GPT(config, rng=Undrawn()).to(dtype)
    fill(model, LLAMA, {name: (path, name) for name in tensors}, path, said="metadata",
         read=lambda path, name: read_tensor(path, tensors[name]))
    return model, tokenizer


# ---- shape -----------------------------------------------------------------------------------------------------------

def shape(fields, tensors):
    """The GPTConfig; the embedding says how many tokens there are, and a head of its own whether there is one."""
    f = {name.removeprefix("llama."): value for name, value in fields.items() if name.startswith("llama.")}
    H, C = f["attention.head_count"], f["embedding_length"]
    D = f.get("attention.key_length", C // H)
    if "token_embd.weight" in tensors:
        V = tensors["token_embd.weight"].shape[0]
    else:
        V = len(fields["tokenizer.ggml.tokens"])
    return GPTConfig(V, f["context_length"], f["block_count"], H, C, bias=False, n_kv_head=f.get("attention.head_count_kv"),
                     head_size=D, n_inner=f["feed_forward_length"], attention_bias="blk.0.attn_q.bias" in tensors, norm="rms",
                     norm_eps=f["attention.layer_norm_rms_epsilon"], activation="silu", gated=True, position="rotary",
                     rotary_share=f.get("rope.dimension_count", D) / D, rope_theta=f.get("rope.freq_base", 10000.0),
                     rope_scaling=stretched(f), tied="output.weight" not in tensors)


def stretched(f):
    kind = f.get("rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise ValueError(f"the rope scaling {kind!r} is not built here for GGUF; linear is")
    return None if kind == "none" else {"kind": "linear", "factor": f["rope.scaling.factor"]}


def as_llama3(config, slower):
    """The config with LLaMA 3's scaling, of which a file says only what comes of it: how much slower each pair of channels
    turns, (R/2,). Of the four numbers behind it the factor is the largest; the others are alike in all that Meta published."""
    scaled = replace(config, rope_scaling={"kind": "llama3", "factor": float(slower.max()), "low": 1.0, "high": 4.0,
                                           "length": 8192})
    expected = np.divide(frequencies(config), frequencies(scaled))
    if slower.shape != expected.shape or not np.allclose(slower, expected, rtol=1e-4):
        raise ValueError(f"rope_freqs.weight, {slower.shape}, is not LLaMA 3's scaling by {slower.max():g} of {len(expected)} "
                         "pairs of channels, and no other is built here for GGUF")
    return scaled


# ---- tensors ---------------------------------------------------------------------------------------------------------

def in_halves(x, n_head):
    """llama.cpp turns channels 2i and 2i + 1 of a head together, we i and i + D/2: rows of each head (D/2 · 2) -> (2 · D/2)"""
    return x.reshape(n_head, -1, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def join_qkv(xs, config):
    q, k, v = xs
    return np.concatenate([in_halves(q, config.n_head), in_halves(k, config.n_kv_head), v])


TURNED_QKV = How(join_qkv, QKV.split)                     # `split` says the shapes, which are the same


def places(model):
    b = "blk.{layer}."
    qkv = tuple(b + f"attn_{x}" for x in "qkv")
    return [Place("wte.weight", ("token_embd.weight",), SAME),
            *layers(model, [*both("ln1", b + "attn_norm"), *both("attn.qkv", qkv, TURNED_QKV, TURNED_QKV),
                            *both("attn.proj", b + "attn_output"), *both("ln2", b + "ffn_norm"),
                            *both("mlp.gate", b + "ffn_gate"), *both("mlp.fc", b + "ffn_up"), *both("mlp.proj", b + "ffn_down")]),
            *both("ln_f", "output_norm"), Place("head.weight", ("output.weight",), SAME)]


# ---- tokenizer -------------------------------------------------------------------------------------------------------

DIGITS = {"type": "Digits", "individual_digits": True}
CUTS = {"gpt-2": ((), split.GPT2), "smollm": ((DIGITS,), split.GPT2), "llama-bpe": ((), split.GPT4)}   # one, and then a pattern


def tokenizer_of(fields):
    """The byte-level BPE that the metadata describe, as a Tokenizer."""
    f = {name.removeprefix("tokenizer.ggml."): value for name, value in fields.items() if name.startswith("tokenizer.ggml.")}
    if f["model"] != "gpt2":
        raise ValueError(f"the tokenizer is of kind {f['model']!r}, and what can be read is byte-level BPE, 'gpt2': LLaMA 1 and "
                         "2, whose vocabulary is SentencePiece's, cannot")
    if f.get("pre") not in CUTS:
        raise ValueError(f"the tokenizer cuts texts as {f.get('pre')!r} does, and what is known is {', '.join(CUTS)}")
    tokens, kinds = f["tokens"], f.get("token_type") or [NORMAL] * len(f["tokens"])
    if len(kinds) != len(tokens):
        raise ValueError(f"the tokenizer has {len(tokens)} tokens, and kinds of {len(kinds)}")
    ids, (first, pattern) = {token: i for i, token in enumerate(tokens)}, CUTS[f["pre"]]
    spec = tokenizer_json.describe_bpe(ids, [m.split(" ") for m in f["merges"]], pattern,
                                       [t for t, kind in zip(tokens, kinds) if kind in (CONTROL, OWN)])
    for token in spec["added_tokens"]:
        token["special"] = kinds[token["id"]] == CONTROL
    if "unknown_token_id" in f:
        spec["model"]["unk_token"] = tokens[f["unknown_token_id"]]
    spec["model"]["ignore_merges"] = f["pre"] == "llama-bpe"              # a word that is a token is that token
    cuts = [*first, spec["pre_tokenizer"]]
    spec["pre_tokenizer"] = cuts[0] if len(cuts) == 1 else {"type": "Sequence", "pretokenizers": cuts}
    return tokenizer_json.build(spec)


LLAMA = Architecture("", shape, None, places, lambda name, config: False, None)
