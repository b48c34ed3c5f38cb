"""What the families call their settings and tensors, and how theirs become ours: GPT-2, GPT-NeoX, LLaMA, BERT."""
from typing import Callable, NamedTuple

import numpy as np

from .bert import BERT
from .config import SCALINGS, GPTConfig
from .rotary import stretched_theta


class How(NamedTuple):
    """The way from their tensors to our one, and back: functions of (arrays, config) and (array, config)."""
    join: Callable
    split: Callable


class Place(NamedTuple):
    """Our parameter's name, and the names of the tensors that it is made of."""
    ours: str
    theirs: tuple
    how: How


class Architecture(NamedTuple):
    """One family: settings of config.json to a GPTConfig and back, the places of tensors, and what to leave out."""
    prefix: str                                          # of the names of the body's tensors
    config: Callable                                     # settings -> GPTConfig
    settings: Callable                                   # model -> settings
    places: Callable                                     # model -> [Place]
    ignored: Callable                                    # (name, config) -> is this tensor none of ours?
    fits: Callable                                       # model -> is it of this family?


# ---- ways ------------------------------------------------------------------------------------------------------------

SAME = How(lambda xs, c: xs[0], lambda x, c: [x])
TRANSPOSED = How(lambda xs, c: xs[0].T, lambda x, c: [x.T])                        # GPT-2 keeps weights as (in, out)
QKV = How(lambda xs, c: np.concatenate(xs),                                        # queries, keys, values one after another
          lambda x, c: np.split(x, np.cumsum([c.n_head * c.head_size, c.n_kv_head * c.head_size])))


def by_head(x, config):
    """NeoX's rows: of each head its queries, keys and values, (H · 3 · D, …), to ours, (3 · H · D, …)"""
    return x.reshape(config.n_head, 3, config.head_size, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)


def by_kind(x, config):
    return x.reshape(3, config.n_head, config.head_size, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)


INTERLEAVED = How(lambda xs, c: by_head(xs[0], c), lambda x, c: [by_kind(x, c)])


def both(ours, theirs, how=SAME, bias_how=SAME):
    """Weight and bias of a layer; models without a bias have no parameter of that name."""
    theirs = (theirs,) if isinstance(theirs, str) else theirs
    return [Place(f"{ours}.weight", tuple(f"{t}.weight" for t in theirs), how),
            Place(f"{ours}.bias", tuple(f"{t}.bias" for t in theirs), bias_how)]


def layers(model, table):
    """The table's places once for each block: {layer} becomes its number."""
    return [Place(f"blocks.{i}.{p.ours}", tuple(t.format(layer=i) for t in p.theirs), p.how)
            for i in range(model.config.n_layer) for p in table]


# ---- GPT-2 -----------------------------------------------------------------------------------------------------------

BENDS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu", "silu": "silu",
         "swish": "silu"}


def bend(name):
    if name not in BENDS:
        raise ValueError(f"the activation {name!r} is not known here; known are {', '.join(BENDS)}")
    return BENDS[name]


def theirs_of(activation):
    return next(name for name, ours in BENDS.items() if ours == activation)


def gpt2_config(s):
    for name, plain in (("scale_attn_by_inverse_layer_idx", False), ("scale_attn_weights", True), ("add_cross_attention", False)):
        if s.get(name, plain) != plain:
            raise ValueError(f"{name}={s[name]} is not built here")
    return GPTConfig(s["vocab_size"], s["n_positions"], s["n_layer"], s["n_head"], s["n_embd"], n_inner=s.get("n_inner"),
                     activation=bend(s.get("activation_function", "gelu_new")), norm_eps=s.get("layer_norm_epsilon", 1e-5),
                     tied=s.get("tie_word_embeddings", True))


def gpt2_settings(model):
    c = model.config
    return dict(architectures=["GPT2LMHeadModel"], vocab_size=c.vocab_size, n_positions=c.block_size, n_layer=c.n_layer,
                n_head=c.n_head, n_embd=c.n_embd, n_inner=c.n_inner, activation_function=theirs_of(c.activation),
                layer_norm_epsilon=c.norm_eps, tie_word_embeddings=c.tied)


def gpt2_places(model):
    h = "transformer.h.{layer}."
    return [Place("wte.weight", ("transformer.wte.weight",), SAME), Place("wpe.weight", ("transformer.wpe.weight",), SAME),
            *layers(model, [*both("ln1", h + "ln_1"), *both("attn.qkv", h + "attn.c_attn", TRANSPOSED),
                            *both("attn.proj", h + "attn.c_proj", TRANSPOSED), *both("ln2", h + "ln_2"),
                            *both("mlp.fc", h + "mlp.c_fc", TRANSPOSED), *both("mlp.proj", h + "mlp.c_proj", TRANSPOSED)]),
            *both("ln_f", "transformer.ln_f"), Place("head.weight", ("lm_head.weight",), SAME)]


# ---- GPT-NeoX --------------------------------------------------------------------------------------------------------

ROPE = {"factor": "factor", "low": "low_freq_factor", "high": "high_freq_factor",             # ours: theirs
        "length": "original_max_position_embeddings"}


def rope(s, share=1.0):
    """The rotary part of a GPTConfig. transformers 5 says it in `rope_parameters`, those before in several settings."""
    r = (s.get("rope_scaling") or {}) | (s.get("rope_parameters") or {})
    kind = r.get("rope_type", r.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ValueError(f"the rope scaling {kind!r} is not built here; linear and llama3 are")
    scaling = None if kind == "default" else {"kind": kind} | {ours: r[theirs] for ours, theirs in ROPE.items()
                                                               if ours in SCALINGS[kind]}
    return dict(position="rotary", rope_scaling=scaling,
                rope_theta=r.get("rope_theta", s.get("rope_theta", s.get("rotary_emb_base", 10000.0))),
                rotary_share=r.get("partial_rotary_factor", s.get("partial_rotary_factor", s.get("rotary_pct", share))))


def rope_settings(c):
    """Both ways at once, so that old and new readers agree. "ntk" has no name there: it is written as the larger theta."""
    scaling = None if c.rope_scaling is None or c.rope_scaling["kind"] == "ntk" else \
        {"rope_type": c.rope_scaling["kind"]} | {theirs: c.rope_scaling[ours] for ours, theirs in ROPE.items()
                                                 if ours in c.rope_scaling}
    theta = stretched_theta(c)
    return {"rope_theta": theta, "rope_scaling": scaling,
            "rope_parameters": (scaling or {"rope_type": "default"}) | {"rope_theta": theta,
                                                                        "partial_rotary_factor": c.rotary_share}}


def neox_config(s):
    return GPTConfig(s["vocab_size"], s["max_position_embeddings"], s["num_hidden_layers"], s["num_attention_heads"],
                     s["hidden_size"], n_inner=s["intermediate_size"], attention_bias=s.get("attention_bias", True),
                     activation=bend(s.get("hidden_act", "gelu")), norm_eps=s.get("layer_norm_eps", 1e-5),
                     order="parallel" if s.get("use_parallel_residual", True) else "pre",
                     tied=s.get("tie_word_embeddings", False), **rope(s, share=0.25))


def neox_settings(model):
    c = model.config
    return dict(architectures=["GPTNeoXForCausalLM"], vocab_size=c.vocab_size, max_position_embeddings=c.block_size,
                num_hidden_layers=c.n_layer, num_attention_heads=c.n_head, hidden_size=c.n_embd,
                intermediate_size=c.n_inner, attention_bias=c.attention_bias, hidden_act=theirs_of(c.activation),
                layer_norm_eps=c.norm_eps, rotary_pct=c.rotary_share, rotary_emb_base=stretched_theta(c),
                use_parallel_residual=c.order == "parallel", tie_word_embeddings=c.tied, hidden_dropout=0.0,
                attention_dropout=0.0) | rope_settings(c)


def neox_places(model):
    h = "gpt_neox.layers.{layer}."
    return [Place("wte.weight", ("gpt_neox.embed_in.weight",), SAME),
            *layers(model, [*both("ln1", h + "input_layernorm"),
                            *both("attn.qkv", h + "attention.query_key_value", INTERLEAVED, INTERLEAVED),
                            *both("attn.proj", h + "attention.dense"), *both("ln2", h + "post_attention_layernorm"),
                            *both("mlp.fc", h + "mlp.dense_h_to_4h"), *both("mlp.proj", h + "mlp.dense_4h_to_h")]),
            *both("ln_f", "gpt_neox.final_layer_norm"), Place("head.weight", ("embed_out.weight",), SAME)]


# ---- LLaMA -----------------------------------------------------------------------------------------------------------

def llama_config(s):
    return GPTConfig(s["vocab_size"], s["max_position_embeddings"], s["num_hidden_layers"], s["num_attention_heads"],
                     s["hidden_size"], bias=s.get("mlp_bias", False), n_kv_head=s.get("num_key_value_heads"),
                     head_size=s.get("head_dim"), n_inner=s["intermediate_size"],
                     attention_bias=s.get("attention_bias", False), norm="rms", norm_eps=s.get("rms_norm_eps", 1e-6),
                     activation=bend(s.get("hidden_act", "silu")), gated=True, tied=s.get("tie_word_embeddings", False),
                     **rope(s))


def llama_settings(model):
    c = model.config
    return dict(architectures=["LlamaForCausalLM"], vocab_size=c.vocab_size, max_position_embeddings=c.block_size,
                num_hidden_layers=c.n_layer, num_attention_heads=c.n_head, num_key_value_heads=c.n_kv_head,
                head_dim=c.head_size, hidden_size=c.n_embd, intermediate_size=c.n_inner, attention_bias=c.attention_bias,
                mlp_bias=c.bias, hidden_act=theirs_of(c.activation), rms_norm_eps=c.norm_eps,
                tie_word_embeddings=c.tied) | rope_settings(c)


def llama_places(model):
    h = "model.layers.{layer}."
    qkv = tuple(h + f"self_attn.{x}_proj" for x in "qkv")
    return [Place("wte.weight", ("model.embed_tokens.weight",), SAME),
            *layers(model, [*both("ln1", h + "input_layernorm"), *both("attn.qkv", qkv, QKV, QKV),
                            *both("attn.proj", h + "self_attn.o_proj"), *both("ln2", h + "post_attention_layernorm"),
                            *both("mlp.gate", h + "mlp.gate_proj"), *both("mlp.fc", h + "mlp.up_proj"),
                            *both("mlp.proj", h + "mlp.down_proj")]),
            *both("ln_f", "model.norm"), Place("head.weight", ("lm_head.weight",), SAME)]


# ---- BERT ------------------------------------------------------------------------------------------------------------

def bert_config(s):
    if s.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"position_embedding_type={s['position_embedding_type']!r} is not built here; \"absolute\" is")
    if not s.get("tie_word_embeddings", True) or s.get("is_decoder", False):
        raise ValueError("a BERT whose head is not its embedding, or that sees the past only, is not built here")
    return GPTConfig(s["vocab_size"], s["max_position_embeddings"], s["num_hidden_layers"], s["num_attention_heads"],
                     s["hidden_size"], n_inner=s["intermediate_size"], activation=bend(s.get("hidden_act", "gelu")),
                     norm_eps=s.get("layer_norm_eps", 1e-12), order="post", causal=False, segments=s.get("type_vocab_size", 2))


def bert_settings(model):
    c = model.config
    return dict(architectures=["BertModel" if model.head is None else "BertForMaskedLM"], vocab_size=c.vocab_size,
                max_position_embeddings=c.block_size, num_hidden_layers=c.n_layer, num_attention_heads=c.n_head,
                hidden_size=c.n_embd, intermediate_size=c.n_inner, hidden_act=theirs_of(c.activation),
                layer_norm_eps=c.norm_eps, type_vocab_size=c.segments, hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0, position_embedding_type="absolute", tie_word_embeddings=True)


def bert_places(model):
    e, h = "bert.embeddings.", "bert.encoder.layer.{layer}."
    qkv = tuple(h + f"attention.self.{x}" for x in ("query", "key", "value"))
    return [Place("wte.weight", (e + "word_embeddings.weight",), SAME),
            Place("wpe.weight", (e + "position_embeddings.weight",), SAME),
            Place("wse.weight", (e + "token_type_embeddings.weight",), SAME), *both("ln", e + "LayerNorm"),
            *layers(model, [*both("attn.qkv", qkv, QKV, QKV), *both("attn.proj", h + "attention.output.dense"),
                            *both("ln1", h + "attention.output.LayerNorm"), *both("mlp.fc", h + "intermediate.dense"),
                            *both("mlp.proj", h + "output.dense"), *both("ln2", h + "output.LayerNorm")]),
            *both("head.fc", "cls.predictions.transform.dense"), *both("head.ln", "cls.predictions.transform.LayerNorm"),
            Place("head.bias", ("cls.predictions.bias",), SAME)]


# ---- which is which --------------------------------------------------------------------------------------------------

def is_gpt(model, **settings):
    """A model of these settings, causal, without segments."""
    c = model.config
    return not isinstance(model, BERT) and c.causal and not c.segments and all(getattr(c, k) == v for k, v in settings.items())


def tied_head(*heads):
    """Tables that old versions of their library saved beside the weights, and a head that is the embedding once more."""
    def ignored(name, config):
        return name.endswith((".attn.bias", ".masked_bias", ".attention.bias", "rotary_emb.inv_freq")) or \
            config.tied and name in heads
    return ignored


ARCHITECTURES = {
    "gpt2": Architecture("transformer.", gpt2_config, gpt2_settings, gpt2_places, tied_head("lm_head.weight"),
                         lambda m: is_gpt(m, norm="layer", position="learned", order="pre", gated=False, bias=True,
                                          attention_bias=True, n_kv_head=m.config.n_head,
                                          head_size=m.config.n_embd // m.config.n_head)),
    "gpt_neox": Architecture("gpt_neox.", neox_config, neox_settings, neox_places, tied_head("embed_out.weight"),
                             lambda m: is_gpt(m, norm="layer", position="rotary", gated=False, bias=True,
                                              n_kv_head=m.config.n_head, head_size=m.config.n_embd // m.config.n_head)),
    "llama": Architecture("model.", llama_config, llama_settings, llama_places, tied_head("lm_head.weight"),
                          lambda m: is_gpt(m, norm="rms", position="rotary", order="pre", gated=True, rotary_share=1.0)),
    "bert": Architecture("bert.", bert_config, bert_settings, bert_places,
                         lambda name, config: name.startswith(("bert.pooler.", "cls.seq_relationship."))
                         or name.endswith("position_ids") or name in ("cls.predictions.decoder.weight",
                                                                      "cls.predictions.decoder.bias"),
                         lambda m: isinstance(m, BERT) and m.config.order == "post" and m.config.norm == "layer"),
}
