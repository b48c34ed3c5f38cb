"""Shapes of models that were published, each as the configuration that builds it here."""
from difflib import get_close_matches
from typing import NamedTuple

from .config import FAMILIES, GPTConfig


class Known(NamedTuple):
    """A published model: its shape, the paper or file that says so, and how many tokens it was trained on (None: unsaid)."""
    config: GPTConfig
    source: str
    tokens: float | None = None
    kind: str = "gpt"                                    # or "bert"


def gpt(layers, heads, channels, block=1024):
    return GPTConfig(50257, block, layers, heads, channels)


def neox(vocabulary, layers, heads, channels, share, activation="gelu"):
    return GPTConfig(vocabulary, 2048, layers, heads, channels,
                     **(FAMILIES["neox"] | dict(activation=activation, rotary_share=share)))


def llama(vocabulary, block, layers, heads, channels, inner, *, kv=None, tied=False, theta=10000.0):
    return GPTConfig(vocabulary, block, layers, heads, channels, n_kv_head=kv, n_inner=inner, rope_theta=theta,
                     **(FAMILIES["llama"] | dict(tied=tied)))


def bert(layers, heads, channels):
    return GPTConfig(30522, 512, layers, heads, channels, norm_eps=1e-12, activation="gelu", order="post", causal=False,
                     segments=2)


KNOWN = {
    # [GPT2] table 2; the released weights
    "gpt2": Known(gpt(12, 12, 768), "GPT2"),
    "gpt2-medium": Known(gpt(24, 16, 1024), "GPT2"),
    "gpt2-large": Known(gpt(36, 20, 1280), "GPT2"),
    "gpt2-xl": Known(gpt(48, 25, 1600), "GPT2"),
    # [GPT3] table 2.1; its layers attend to a band in turns, which changes no parameter
    "gpt-3": Known(gpt(96, 96, 12288, block=2048), "GPT3", 300e9),
    # [PYTHIA] table 1, and the released config.json for the vocabulary, which is padded by the size of the cluster
    "pythia-70m": Known(neox(50304, 6, 8, 512, 0.25), "PYTHIA", 300e9),
    "pythia-160m": Known(neox(50304, 12, 12, 768, 0.25), "PYTHIA", 300e9),
    "pythia-410m": Known(neox(50304, 24, 16, 1024, 0.25), "PYTHIA", 300e9),
    "pythia-1b": Known(neox(50304, 16, 8, 2048, 0.25), "PYTHIA", 300e9),
    "pythia-1.4b": Known(neox(50304, 24, 16, 2048, 0.25), "PYTHIA", 300e9),
    "pythia-2.8b": Known(neox(50304, 32, 32, 2560, 0.25), "PYTHIA", 300e9),
    "pythia-6.9b": Known(neox(50432, 32, 32, 4096, 0.25), "PYTHIA", 300e9),
    "pythia-12b": Known(neox(50688, 36, 40, 5120, 0.25), "PYTHIA", 300e9),
    # [NEOX] section 2, and its config.json
    "gpt-neox-20b": Known(neox(50432, 44, 64, 6144, 0.25, "gelu_tanh"), "NEOX"),
    # [POLYGLOT] section 4, and the config.json of each; of the largest the model card says 12,898,631,680 parameters, and
    # its config.json, by which it is loaded, makes 5,027,840 fewer; 64 channels of a head turn
    "polyglot-ko-1.3b": Known(neox(30080, 24, 16, 2048, 0.5), "POLYGLOT", 213e9),
    "polyglot-ko-3.8b": Known(neox(30080, 32, 24, 3072, 0.5), "POLYGLOT"),
    "polyglot-ko-5.8b": Known(neox(30080, 28, 16, 4096, 0.25), "POLYGLOT"),
    "polyglot-ko-12.8b": Known(neox(30080, 40, 40, 5120, 0.5), "POLYGLOT"),
    # [KOALPACA], its config.json: without the 77 tokens that only fill Polyglot-Ko's vocabulary up
    "koalpaca": Known(neox(30003, 40, 40, 5120, 0.5), "KOALPACA"),
    # [LLAMA] table 2
    "llama-7b": Known(llama(32000, 2048, 32, 32, 4096, 11008), "LLAMA", 1e12),
    "llama-13b": Known(llama(32000, 2048, 40, 40, 5120, 13824), "LLAMA", 1e12),
    "llama-33b": Known(llama(32000, 2048, 60, 52, 6656, 17920), "LLAMA", 1.4e12),
    "llama-65b": Known(llama(32000, 2048, 80, 64, 8192, 22016), "LLAMA", 1.4e12),
    # [LLAMA2] table 1; keys and values are shared in the largest
    "llama-2-7b": Known(llama(32000, 4096, 32, 32, 4096, 11008), "LLAMA2", 2e12),
    "llama-2-13b": Known(llama(32000, 4096, 40, 40, 5120, 13824), "LLAMA2", 2e12),
    "llama-2-70b": Known(llama(32000, 4096, 80, 64, 8192, 28672, kv=8), "LLAMA2", 2e12),
    # [LLAMA3] table 3, and the config.json of the first release, which reads 8192 tokens
    "llama-3-8b": Known(llama(128256, 8192, 32, 32, 4096, 14336, kv=8, theta=500000.0), "LLAMA3", 15e12),
    "llama-3-70b": Known(llama(128256, 8192, 80, 64, 8192, 28672, kv=8, theta=500000.0), "LLAMA3", 15e12),
    # [SMOLLM2] and its config.json
    "smollm2-135m": Known(llama(49152, 8192, 30, 9, 576, 1536, kv=3, tied=True, theta=100000.0), "SMOLLM2", 2e12),
    # [BERT] section 3; the uncased vocabulary
    "bert-base": Known(bert(12, 12, 768), "BERT", kind="bert"),
    "bert-large": Known(bert(24, 16, 1024), "BERT", kind="bert"),
}
# fine-tuned on instructions, with the very shape of what they were made from [KOALPACA], [KOVICUNA]
BASES = {"koalpaca-5.8b": "polyglot-ko-5.8b", "kovicuna": "llama-7b"}


def known(name):
    """(name of the base, Known) of a published model; a ValueError with the names that come nearest."""
    base = BASES.get(name.lower(), name.lower())
    if base not in KNOWN:
        near = get_close_matches(name.lower(), [*KNOWN, *BASES], n=3, cutoff=0.4)
        raise ValueError(f"no model {name!r} is known, and no file or folder has this name. " +
                         (f"Did you mean {', '.join(near)}? " if near else "") + f"Known are {', '.join([*KNOWN, *BASES])}")
    return base, KNOWN[base]
