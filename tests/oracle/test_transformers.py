"""Hugging Face's transformers, live: models of random configurations, saved there, read here, and written back.

tests/golden holds a few such models, which the default tests read; here Hypothesis draws them anew.
"""
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.golden.make import V, angles_per_position, expected, in_float64
from tests.test_pretrained import agrees, close
from tinygrad_lm import no_grad
from tinygrad_lm.generate import generate
from tinygrad_lm.models import GPT, GPTConfig, from_pretrained, save_pretrained
from tinygrad_lm.models.architectures import BENDS

torch = pytest.importorskip("torch")
hf = pytest.importorskip("transformers")
pytestmark = pytest.mark.oracle
torch.set_num_threads(1)                               # tiny models: threads would only wait for one another
hf.logging.set_verbosity_error()
hf.logging.disable_progress_bar()
T, LONGEST = 8, 16

sizes, layers, yes_or_no = st.integers(6, 12), st.integers(1, 2), st.booleans()
bends = st.sampled_from(sorted(BENDS))
common = dict(vocab_size=V, initializer_range=0.3)


# ---- configurations --------------------------------------------------------------------------------------------------

gpt2s = st.builds(
    lambda H, D, **drawn: hf.GPT2Config(**common, n_positions=LONGEST, n_head=H, n_embd=H * D, resid_pdrop=0.0,
                                        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None, **drawn),
    H=st.integers(1, 3), D=sizes, n_layer=layers, n_inner=st.none() | sizes, activation_function=bends,
    layer_norm_epsilon=st.sampled_from([1e-5, 1e-3]), tie_word_embeddings=yes_or_no)


@st.composite
def ropes(draw, shares):
    """rope_parameters, as transformers 5 calls them"""
    kind = draw(st.sampled_from(["default", "linear", "llama3"]))
    r = dict(rope_type=kind, rope_theta=draw(st.sampled_from([100.0, 1e4, 5e5])), partial_rotary_factor=draw(shares))
    if kind != "default":
        r["factor"] = draw(st.sampled_from([1.5, 2.0, 8.0]))
    if kind == "llama3":
        r |= dict(low_freq_factor=1.0, high_freq_factor=draw(st.sampled_from([2.0, 4.0])),
                  original_max_position_embeddings=draw(st.sampled_from([4, 12])))
    return r


causal = dict(max_position_embeddings=LONGEST, bos_token_id=None, eos_token_id=None, attention_dropout=0.0)
neoxes = st.builds(
    lambda H, D, **drawn: hf.GPTNeoXConfig(**common, **causal, num_attention_heads=H, hidden_size=H * D, hidden_dropout=0.0,
                                           **drawn),
    H=st.integers(1, 3), D=sizes.map(lambda n: 2 * (n // 2)), num_hidden_layers=layers, intermediate_size=sizes,
    hidden_act=bends, layer_norm_eps=st.sampled_from([1e-5, 1e-3]), use_parallel_residual=yes_or_no,
    attention_bias=yes_or_no, tie_word_embeddings=yes_or_no, rope_parameters=ropes(st.sampled_from([0.25, 0.5, 0.7, 1.0])))
llamas = st.builds(
    lambda K, G, C, **drawn: hf.LlamaConfig(**common, **causal, num_key_value_heads=K, num_attention_heads=K * G,
                                            hidden_size=K * G * C, **drawn),
    K=st.integers(1, 2), G=st.integers(1, 3), C=sizes, head_dim=st.sampled_from([2, 4, 6]), num_hidden_layers=layers,
    intermediate_size=sizes, hidden_act=bends, rms_norm_eps=st.sampled_from([1e-6, 1e-3]), attention_bias=yes_or_no,
    mlp_bias=yes_or_no, tie_word_embeddings=yes_or_no, rope_parameters=ropes(st.just(1.0)))
berts = st.builds(                                       # a padding token's embedding would get no gradient there
    lambda H, D, **drawn: hf.BertConfig(**common, max_position_embeddings=LONGEST, num_attention_heads=H, hidden_size=H * D,
                                        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=None,
                                        **drawn),
    H=st.integers(1, 3), D=sizes, num_hidden_layers=layers, intermediate_size=sizes, hidden_act=bends,
    layer_norm_eps=st.sampled_from([1e-12, 1e-3]), type_vocab_size=st.integers(1, 3))

HEADS = {"gpt2": hf.GPT2LMHeadModel, "gpt_neox": hf.GPTNeoXForCausalLM, "llama": hf.LlamaForCausalLM,
         "bert": hf.BertForMaskedLM}
writers = st.one_of(gpt2s, neoxes, llamas)
every = st.one_of(writers, berts)
seeds = st.integers(0, 2**32 - 1)


def built(config, seed):
    """A model of that shape, random in every weight."""
    torch.manual_seed(seed)
    model = HEADS[config.model_type](config).eval()
    for p in model.parameters():                         # biases and norms, too, are not what they begin as
        p.data += 0.2 * torch.randn_like(p)
    return model


def saved(model, folder, **options):
    model.save_pretrained(folder, **options)
    return Path(folder)


def text(seed, B=2):
    return np.random.default_rng(seed).integers(0, V, (B, T))


def their_logits(model, idx, **more):
    with torch.no_grad():
        return model(torch.as_tensor(idx), **{k: torch.as_tensor(x) for k, x in more.items()}).logits.numpy()


def lost(single, double):
    """How much float32 loses there, relative to each tensor's largest number: where a model is ill-conditioned, such as a
    norm over few channels that are nearly equal, more than usual."""
    least = 0.01 * max(np.abs(double[k]).max() for k in double if "/" in k)
    return max(np.abs(single[k] - double[k]).max() / max(np.abs(double[k]).max(), least) for k in double)


def read_there(folder):
    """The model as transformers reads it, in float64; every tensor has found its place."""
    settings = json.loads((folder / "config.json").read_text())
    model, report = HEADS[settings["model_type"]].from_pretrained(folder, dtype=torch.float64, output_loading_info=True)
    assert not any(report.values()), report
    return in_float64(model)


# ---- reading and writing ---------------------------------------------------------------------------------------------

@settings(max_examples=80)
@given(every, seeds)
def test_logits_loss_and_every_gradient(config, seed):
    model, idx, targets = built(config, seed), text(seed), text(seed + 1)
    targets[0, :3] = -100
    with TemporaryDirectory() as folder:
        saved(model, folder)
        single, theirs = expected(model, idx, targets), expected(in_float64(model), idx, targets)
        for dtype, rtol in ((np.float64, 1e-10), (np.float32, max(1e-5, 5 * lost(single, theirs)))):
            agrees(from_pretrained(folder, dtype=dtype), theirs, config.model_type, rtol)


@settings(max_examples=40)
@given(every, seeds)
def test_what_is_written_here_is_read_there(config, seed):
    with TemporaryDirectory() as folder, TemporaryDirectory() as again:
        model = from_pretrained(saved(built(config, seed), folder), dtype=np.float64)
        save_pretrained(model, again)
        idx = text(seed)
        close(model(idx).data, their_logits(read_there(Path(again)), idx), 1e-10, "logits")


@settings(max_examples=40)
@given(st.one_of(neoxes, llamas), st.sampled_from(["type", "rope_type"]), seeds)
def test_rotary_settings_as_transformers_4_wrote_them(config, word, seed):
    with TemporaryDirectory() as folder:
        saved(built(config, seed), folder)
        path = Path(folder) / "config.json"
        s = json.loads(path.read_text())
        r = s.pop("rope_parameters")
        theta, share = r.pop("rope_theta"), r.pop("partial_rotary_factor")
        s |= dict(rotary_emb_base=theta, rotary_pct=share) if config.model_type == "gpt_neox" else dict(rope_theta=theta)
        s["rope_scaling"] = {word: r.pop("rope_type")} | r
        if s["rope_scaling"][word] == "default":
            s["rope_scaling"] = None
        path.write_text(json.dumps(s))
        idx = text(seed)
        ours = from_pretrained(folder, dtype=np.float64)(idx).data
        close(ours, their_logits(read_there(Path(folder)), idx), 1e-10, "logits")


@settings(max_examples=15)
@given(every, seeds)
def test_saved_in_parts(config, seed):
    with TemporaryDirectory() as whole, TemporaryDirectory() as parts:
        model = built(config, seed)
        saved(model, whole)
        saved(model, parts, max_shard_size=500)
        assert len(list(Path(parts).glob("model-*-of-*.safetensors"))) > 1
        np.testing.assert_array_equal(from_pretrained(parts)(text(seed)).data, from_pretrained(whole)(text(seed)).data)


@settings(max_examples=15)
@given(every, seeds)
def test_saved_in_bfloat16(config, seed):
    """Read as float64, its weights are the rounded ones to the last bit."""
    with TemporaryDirectory() as folder:
        model = built(config, seed).to(torch.bfloat16)
        saved(model, folder)
        ours, idx = from_pretrained(folder, dtype=np.float64), text(seed)
        close(ours(idx).data, their_logits(in_float64(model), idx), 1e-10, "logits")


@given(st.sampled_from([1.5, 4.0]), st.sampled_from([0.5, 1.0]), seeds)
@settings(max_examples=10)
def test_a_larger_theta(factor, share, seed):
    """Of the scalings that are known here, "ntk" has no name in transformers; it is written as the theta that it is."""
    shape = dict(position="rotary", n_layer=2, n_head=2, n_embd=16, tied=False,
                 rope_scaling={"kind": "ntk", "factor": factor})
    llama = dict(norm="rms", activation="silu", gated=True, bias=False)
    neox = dict(order="parallel", activation="gelu", rotary_share=share)
    with TemporaryDirectory() as folder:
        model = GPT(GPTConfig(V, LONGEST, **shape, **(llama if share == 1 else neox)), rng=np.random.default_rng(seed))
        save_pretrained(model.to(np.float64), folder)
        idx = text(seed)
        close(model(idx).data, their_logits(read_there(Path(folder)), idx), 1e-10, "logits")


# ---- padding and writing ---------------------------------------------------------------------------------------------

@st.composite
def padding(draw):
    """Which tokens of two texts are real, bool (2, T): padded on the left or on the right"""
    lengths = np.array(draw(st.lists(st.integers(1, T), min_size=2, max_size=2)))
    places = np.arange(T)
    return places < lengths[:, None] if draw(yes_or_no) else places >= T - lengths[:, None]


@settings(max_examples=40)
@given(writers, padding(), seeds)
def test_padding(config, mask, seed):
    """transformers is told the positions; here they are counted over what is real."""
    with TemporaryDirectory() as folder:
        model, idx = built(config, seed), text(seed)
        ours = from_pretrained(saved(model, folder), dtype=np.float64)(idx, mask=mask).data
        theirs = their_logits(in_float64(model), idx, attention_mask=mask.astype(int),
                              position_ids=(mask.cumsum(-1) - 1).clip(0))
        close(ours[mask], theirs[mask], 1e-10, "logits of real tokens")


@settings(max_examples=20)
@given(berts, padding(), seeds)
def test_padding_and_segments_of_bert(config, mask, seed):
    with TemporaryDirectory() as folder:
        model, idx = built(config, seed), text(seed)
        segments = np.random.default_rng(seed).integers(0, config.type_vocab_size, idx.shape)
        ours = from_pretrained(saved(model, folder), dtype=np.float64)(idx, mask=mask, segments=segments).data
        theirs = their_logits(in_float64(model), idx, attention_mask=mask.astype(int), token_type_ids=segments)
        close(ours[mask], theirs[mask], 1e-10, "logits of real tokens")


@settings(max_examples=25)
@given(writers, st.lists(st.integers(1, T), min_size=2, max_size=2), seeds)
def test_greedy_text(config, lengths, seed):
    """With a cache on either side, from prompts of different length, padded on the left."""
    mask, idx, new = np.arange(T) >= T - np.array(lengths)[:, None], text(seed), LONGEST - T
    with TemporaryDirectory() as folder:
        model = built(config, seed)
        ours = generate(from_pretrained(saved(model, folder), dtype=np.float64), idx, new, rng=np.random.default_rng(0),
                        temperature=0, mask=mask).tokens
        theirs = in_float64(model).generate(torch.as_tensor(idx), attention_mask=torch.as_tensor(mask.astype(int)),
                                            max_new_tokens=new, do_sample=False, use_cache=True, pad_token_id=0).numpy()
        np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=30)
@given(st.one_of(neoxes, llamas))
def test_the_angles_of_the_golden_files_are_those_of_transformers(config):
    """tests/golden/make.py writes the formulas anew, to have them in float64."""
    model = HEADS[config.model_type](config)
    for module in model.modules():
        if hasattr(module, "inv_freq"):
            np.testing.assert_allclose(angles_per_position(config), module.inv_freq.numpy(), rtol=1e-6)
