"""How large a model is: the formulas against models that are built, graphs that are held, and products that are counted."""
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tinygrad_lm import Tensor
from tinygrad_lm.models import BERT, GPT, GPTConfig
from tinygrad_lm.models import size as s
from tinygrad_lm.models.known import BASES, KNOWN, known
from tinygrad_lm.models.report_size import gib, read_shape, report
from tinygrad_lm.ops import causal_attention

ROOT = Path(__file__).parents[1]


@st.composite
def configs(draw, kind="gpt"):
    """Every option that changes a size."""
    def one(*values):
        return draw(st.sampled_from(values))

    heads, keys = one((1, 1), (2, 1), (2, 2), (4, 2), (6, 3))
    if kind == "gpt":
        shape = dict(position=one("learned", "rotary"), tied=one(True, False), bias=one(True, False),
                     norm=one("layer", "rms"), attention_bias=one(None, False, True),
                     causal=one(True, False), rotary_share=one(0.5, 0.75, 1.0))
    else:
        shape = dict(causal=False, segments=one(0, 1, 2))
    return GPTConfig(one(5, 17, 40), one(8, 20), one(1, 2, 3), heads, heads * 4, one(0.0, 0.1), n_kv_head=keys,
                     head_size=one(None, 2, 6), n_inner=one(None, 7, 24),
                     activation=one("gelu_tanh", "gelu", "relu", "silu"),
                     gated=one(True, False), order=one("pre", "post", "parallel"), **shape)


def shapes():
    return st.sampled_from(["gpt", "bert", "bert body"]).flatmap(lambda kind: st.tuples(st.just(kind), configs(kind)))


def build(kind, config):
    rng = np.random.default_rng(0)
    return GPT(config, rng=rng) if kind == "gpt" else BERT(config, rng=rng, head=kind == "bert")


# ---- parameters ------------------------------------------------------------------------------------------------------

def counted_by_part(model):
    parts = {}
    for name, p in model.named_parameters():
        part = next(part for start, part in PARTS if re.match(start, name))
        parts[part] = parts.get(part, 0) + p.size
    return parts


PARTS = (("wte", "token embedding"), ("wpe", "position embedding"), ("wse", "segment embedding"), ("head", "head"),
         (r".*attn\.", "attention"), (r".*mlp\.", "MLP"), (r"(.*\.)?ln", "norms"))


@given(shapes())
def test_parameters_are_those_of_the_built_model(shape):
    kind, config = shape
    model = build(kind, config)
    assert s.parameters(config, kind) == counted_by_part(model)
    assert s.n_parameters(config, kind) == model.n_parameters()


# as the model's authors say, or as those who loaded the released weights counted them: docs/what-is-large.md
PUBLISHED = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200,
             "pythia-70m": 70_426_624, "pythia-160m": 162_322_944, "pythia-410m": 405_334_016, "pythia-1b": 1_011_781_632,
             "pythia-1.4b": 1_414_647_808, "pythia-2.8b": 2_775_208_960, "pythia-6.9b": 6_857_302_016,
             "pythia-12b": 11_846_072_320, "gpt-neox-20b": 20_554_567_680, "polyglot-ko-1.3b": 1_331_810_304,
             "polyglot-ko-3.8b": 3_809_974_272, "polyglot-ko-5.8b": 5_885_059_072, "llama-7b": 6_738_415_616,
             "llama-13b": 13_015_864_320, "llama-33b": 32_528_943_616, "llama-65b": 65_285_660_672,
             "llama-2-7b": 6_738_415_616, "llama-2-13b": 13_015_864_320, "llama-2-70b": 68_976_648_192,
             "llama-3-8b": 8_030_261_248, "llama-3-70b": 70_553_706_496, "smollm2-135m": 134_515_008,
             "bert-base": 109_514_298, "bert-large": 335_174_458}
POLYGLOT_CARD = 12_898_631_680                          # what the card of the largest says, and its config.json does not
POOLED = {"bert-base": 109_482_240, "bert-large": 335_141_888}    # without the head, with a layer on the first token


def test_published_models_have_their_published_sizes():
    found = {name: s.n_parameters(k.config, k.kind) for name, k in KNOWN.items()}
    assert PUBLISHED == {name: n for name, n in found.items() if name not in ("gpt-3", "polyglot-ko-12.8b", "koalpaca")}
    assert f"{found['gpt-3'] / 1e9:.0f}" == "175"
    assert found["polyglot-ko-12.8b"] == POLYGLOT_CARD - 5_027_840
    assert found["koalpaca"] == found["polyglot-ko-12.8b"] - 2 * 77 * 5120        # rows of the embedding and of the head
    for name, n in POOLED.items():
        C = KNOWN[name].config.n_embd
        assert s.n_parameters(KNOWN[name].config, "bert body") + C * C + C == n


@pytest.mark.parametrize("name", KNOWN)
def test_a_published_model_is_counted_as_a_small_one_of_its_kind_is_built(name):
    """The same shape with few layers, channels and tokens: by part, the formula is what the built model has."""
    config, _, _, kind = KNOWN[name]
    groups = config.n_head // config.n_kv_head
    small = replace(config, vocab_size=11, block_size=8, n_layer=2, n_head=2 * groups, n_kv_head=2, head_size=8,
                    n_embd=16 * groups, n_inner=config.n_inner * 16 * groups // config.n_embd)
    assert s.parameters(small, kind) == counted_by_part(build(kind, small))


def test_names():
    for name, base in BASES.items():
        assert known(name) == (base, KNOWN[base])
    assert known("KoAlpaca")[0] == "koalpaca" and known("KoVicuna")[0] == "llama-7b"
    with pytest.raises(ValueError, match="Did you mean llama-2-7b, "):
        known("lama-2-7b")
    listed = (ROOT / "docs/references.md").read_text(encoding="utf-8")
    assert all(f"**[{k.source}]**" in listed for k in KNOWN.values())


# ---- memory ----------------------------------------------------------------------------------------------------------

def test_weights_of_every_type():
    """By hand: one block of C = 4, 4 heads of keys, inner 16: matrices 12×4, 4×4, 16×4, 4×16."""
    config = GPTConfig(10, 8, 1, 2, 4)
    n = GPT(config).n_parameters()
    assert [s.weights(config, t) for t in s.FLOATS] == [4 * n, 2 * n, 2 * n]
    matrices, rows = 48 + 16 + 64 + 64, 12 + 4 + 16 + 4
    assert s.weights(config, "int8") == matrices + 2 * rows + 2 * (n - matrices)
    assert s.weights(config, "int4") == matrices // 2 + 2 * rows + 2 * (n - matrices)
    wide = GPTConfig(10, 8, 1, 1, 64, n_inner=64, tied=True, bias=False)          # two scales a row, of 32 numbers each
    assert s.weights(wide, "int4") == 6 * 64 * (64 // 2 + 2 * 2) + 2 * (s.n_parameters(wide) - 6 * 64 * 64)


@given(configs(), st.integers(1, 3), st.integers(1, 8), st.booleans())
def test_kv_cache_is_what_decoding_allocates(config, B, T, half):
    from tinygrad_lm.models.cache import KVCache
    config = replace(config, causal=True)
    model = GPT(config).to(np.float16 if half else np.float32)
    assert s.kv_cache(config, T, B, "int8" if half else "float32") == sum(a.kv.nbytes for a in KVCache(model, B, T).layers)


def graph(loss):
    nodes, stack = {loss.node}, [loss.node]
    while stack:
        for t in stack.pop().inputs:
            if t is not None and not isinstance(t, Tensor) and t not in nodes:
                nodes.add(t)
                stack.append(t)
    return nodes


def held(loss, parameters):
    """Bytes of every array that the graph saved, each piece of memory once, parameters apart."""
    found = {}

    def collect(x):
        if isinstance(x, np.ndarray):
            while x.base is not None:
                x = x.base
            found[id(x)] = x
        elif isinstance(x, (tuple, list)):
            for y in x:
                collect(y)

    for node in graph(loss):
        collect(node.saved)
    own = {id(p.data) for p in parameters}
    return sum(x.nbytes for key, x in found.items() if key not in own)


@given(shapes().filter(lambda shape: shape[0] != "bert body"), st.integers(1, 3), st.sampled_from([2, 3, 5, 8, 40, 64, 70]))
def test_activations_are_what_the_graph_holds(shape, B, T):
    kind, config = shape
    config = replace(config, block_size=max(T, config.block_size))
    model = build(kind, config)
    idx = np.random.default_rng(0).integers(0, config.vocab_size, (B, T))
    assert s.engine_activations(config, T, B, kind=kind) == held(model.loss(idx, idx.copy()), model.parameters())


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9))
def test_activations_of_half_precision_are_the_papers(L, a, b, t):
    """[RECOMPUTE]: s b h (34 + 5 a s / h) a layer; 34 s b h without the scores; 2 s b h of blocks that are made again."""
    h, V = 8 * a, 11
    config = GPTConfig(V, 64, L, a, h, dropout=0.1)
    ends, layer, scores = b * t * (h + 4 * h + 4 * V), 34 * t * b * h, 5 * a * t * t * b
    assert s.activations(config, t, b, 2) == L * (layer + scores) + ends
    assert s.activations(config, t, b, 2, recompute="attention") == L * layer + ends
    assert s.activations(config, t, b, 2, recompute="blocks") == L * 2 * t * b * h + layer + scores + ends


def test_training_memory():
    config, n = KNOWN["llama-2-7b"].config, PUBLISHED["llama-2-7b"]
    half, full = (s.training(config, 512, 1, t) for t in ("bfloat16", "float32"))
    for memory in (half, full):
        assert memory["weights"] + memory["gradients"] + memory["optimizer"] == 16 * n
    adapters = s.training(config, 512, 1, "int4", lora=16)
    trained = 32 * 16 * (3 * 4096 + 4096 + 4096 + 4096 + 3 * (4096 + 11008))
    assert s.n_lora(config, 16) == trained
    assert adapters["weights"] == s.weights(config, "int4") + 2 * trained
    assert (adapters["gradients"], adapters["optimizer"]) == (2 * trained, 12 * trained)
    with pytest.raises(ValueError, match="int4 have no gradient"):
        s.training(config, 512, 1, "int4")


# ---- arithmetic ------------------------------------------------------------------------------------------------------

class Counted(np.ndarray):
    """An array that counts the products of matrices it takes part in: sums of rows, written as products, are none."""
    flops = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        plain = [np.asarray(x) if isinstance(x, Counted) else x for x in inputs]
        if out:
            options["out"] = tuple(np.asarray(x) if isinstance(x, Counted) else x for x in out)
        if ufunc is np.matmul and min(x.ndim for x in plain) > 1 and plain[1].shape[-1] > 1:
            Counted.flops += 2 * getattr(ufunc, method)(*plain, **options).size * plain[0].shape[-1]
        result = getattr(ufunc, method)(*plain, **options)
        return out[0] if out else result.view(Counted) if isinstance(result, np.ndarray) else result

    def dot(self, other):
        return np.matmul(self, other)

    @staticmethod
    def made_by(make):
        """np.empty or np.zeros: what they make will have a method dot that counts."""
        return lambda *shape, **options: make(*shape, **options).view(Counted)


def counted_flops(model, idx):
    """(forward, backward) of one step of training, without the gradient of the embedding, which is a product only here."""
    for p in model.parameters():
        p.data = p.data.view(Counted)
    Counted.flops = 0
    loss = model.loss(idx, idx)
    forward = Counted.flops
    loss.backward()
    backward = Counted.flops - forward
    if idx.size * model.config.vocab_size <= 1 << 15:
        backward -= 2 * idx.size * model.config.vocab_size * model.config.n_embd
    return forward, backward


@settings(max_examples=30)
@given(shapes().filter(lambda shape: shape[0] != "bert body"), st.integers(1, 3), st.integers(2, 8), st.booleans())
def test_flops_are_the_products_of_a_step(shape, B, T, many):
    kind, config = shape
    config = replace(config, dropout=0.0)
    idx = np.random.default_rng(0).integers(0, config.vocab_size, (B, T))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causal_attention, "FEW", 1 if many else 8)
        for make in (np.empty, np.zeros):
            patch.setattr(np, make.__name__, Counted.made_by(make))
        forward, backward = counted_flops(build(kind, config), idx)
    parts = s.forward_flops(config, T, kind)
    assert forward == B * T * sum(parts.values())
    again = parts["scores"] // 2 if config.plain_attention and many else 0     # its backward makes the scores again
    assert backward == B * T * (2 * sum(parts.values()) + again)


def test_the_usual_estimate():
    """6 N D of GPT-3 is its paper's 3.14e23; the exact count is near it, and the scores are what is missing."""
    config = KNOWN["gpt-3"].config
    n = s.n_parameters(config)
    assert 6 * n * 300e9 == pytest.approx(3.14e23, rel=2e-3)
    exact = 3 * sum(s.forward_flops(config, 2048).values()) * 300e9
    assert 1.0 < exact / (6 * n * 300e9) < 1.05


# ---- the report ------------------------------------------------------------------------------------------------------

def test_the_seminars_claims():
    """A model of 12.8B does not serve on 24 GB in 16 bits, does with quantised weights, and does on 80 GB."""
    for name in ("polyglot-ko-12.8b", "koalpaca"):
        holds = {t: report(name, dtype=t)["cards"] for t in s.DTYPES}
        assert not holds["bfloat16"]["24"]["holds"] and not holds["float16"]["24"]["holds"]
        assert holds["bfloat16"]["80"]["holds"] and holds["int8"]["24"]["holds"] and holds["int4"]["24"]["holds"]
    assert report("polyglot-ko-12.8b")["memory"]["weights"] > 24 * s.GIB           # not by a little: the weights alone


def test_a_card_holds_what_is_usable():
    assert all(s.usable(card) < card * s.GIB for card in s.CARDS)
    assert [s.smallest_card(s.usable(card)) for card in s.CARDS] == list(s.CARDS)
    assert s.smallest_card(s.usable(24) + 1) == 40 and s.smallest_card(s.usable(141) + 1) is None


def test_bytes_as_people_read_them():
    assert [gib(n * 2**20) for n in (1, 10, 11, 2048, 200 * 1024)] == ["1.00 MiB", "10.00 MiB", "0.01 GiB", "2.00 GiB",
                                                                       "200 GiB"]


def test_a_report_adds_up():
    for options in (dict(), dict(train=True), dict(lora=8, dtype="int4"), dict(train=True, recompute="blocks", batch=3)):
        found = report("llama-2-7b", context=512, **options)
        memory = found["memory"]
        assert memory["total"] == sum(n for what, n in memory.items() if what != "total")
        assert found["other types"][found["dtype"]] == memory["total"]
        assert sum(found["parameters"]["by part"].values()) == found["parameters"]["total"] == PUBLISHED["llama-2-7b"]
        assert found["train"] == bool(options) and ("activations" in found) == bool(options)
        json.dumps(found)
    assert report("gpt2")["flops"]["tokens a parameter"] == 20
    assert report("gpt2", tokens=1e9)["flops"]["training tokens"] == 1e9
    assert report("bert-base")["memory"]["KV cache"] == 0


def test_shapes_from_files(tmp_path):
    from tinygrad_lm.checkpoint import CheckpointError, save
    from tinygrad_lm.models import save_pretrained
    from tinygrad_lm.models.saved import describe
    from tinygrad_lm.text.char import CharTokenizer
    models = {"gpt": GPT(GPTConfig(5, 6, 2, 2, 8)), "llama": GPT(GPTConfig(
        7, 16, 2, 4, 16, bias=False, n_kv_head=2, norm="rms", activation="silu", gated=True, position="rotary", tied=False)),
        "bert": BERT(GPTConfig(7, 8, 1, 2, 8, order="post", causal=False, segments=2, activation="gelu")),
        "bert body": BERT(GPTConfig(9, 8, 1, 2, 8, order="post", causal=False, segments=2), head=False)}
    for name, model in models.items():
        save_pretrained(model, tmp_path / name)
        for path in (tmp_path / name, tmp_path / name / "config.json"):
            assert report(str(path))["parameters"]["total"] == model.n_parameters()
    run = tmp_path / "run" / "checkpoint.safetensors"
    tokenizer = CharTokenizer("abc")
    model = GPT(GPTConfig(len(tokenizer), 6, 1, 2, 8))
    save(run, {f"model/{n}": a for n, a in model.state_dict().items()}, describe(model, tokenizer))
    for path in (run, run.parent):
        assert report(str(path))["parameters"]["total"] == model.n_parameters()
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(ValueError, match="config.json: the architecture 'mamba' is not known"):
        report(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="says nothing about 'vocab_size', which llama needs"):
        report(str(tmp_path))
    with pytest.raises(CheckpointError, match="does not exist"):
        report(str(tmp_path / "nothing.safetensors"))


@pytest.mark.parametrize("options, words", [
    (dict(context=0), "context must be at least 1, not 0"), (dict(batch=0), "batch must be at least 1"),
    (dict(lora=0), "lora must be at least 1"), (dict(context=2000), "learned positions for 1024 tokens, and none for")])
def test_what_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        report("gpt2", **options)


# ---- the chapter -----------------------------------------------------------------------------------------------------

CHAPTER = (ROOT / "docs/what-is-large.md").read_text(encoding="utf-8")


def test_the_chapter_shows_what_the_tool_prints(capsys, monkeypatch):
    from .test_cli import call
    shown = re.findall(r"```console\n\$ tinygrad-lm (.+)\n((?:.+\n)+)```", CHAPTER)
    assert len(shown) == CHAPTER.count("```console") == 5
    for command, lines in shown:
        code, out, err = call(capsys, monkeypatch, *command.split())
        assert code == 0, err
        printed = iter(out.splitlines())
        for line in lines.splitlines():
            assert line in printed, f"{command} does not print, after the lines before it: {line}"


def test_the_chapters_numbers():
    """What the prose says, computed."""
    def cache(name, **options):
        return report(name, **options)["memory"]["KV cache"] / s.GIB

    gpt2, llama, polyglot = report("gpt2"), report("llama-2-7b"), report("polyglot-ko-12.8b")
    gpt3, kovicuna = report("gpt-3", train=True), report("kovicuna")
    embedding = gpt2["parameters"]["by part"]["token embedding"] / gpt2["parameters"]["total"]
    busy = llama["flops"]["exact"] / (184_320 * 3600) / 312e12
    more = [f["flops"]["exact"] / f["flops"]["6ND"] - 1 for f in (gpt3, llama)]
    assert kovicuna["cards"]["16"]["holds"] and not kovicuna["cards"]["12"]["holds"] and kovicuna["context"] == 2048
    for said in (f"{embedding:.1%} of its {gpt2['parameters']['total']:,} parameters", f"{PUBLISHED['llama-2-7b']:,}",
                 f"{POLYGLOT_CARD - polyglot['parameters']['total']:,} fewer",
                 f"{polyglot['parameters']['total'] - report('koalpaca')['parameters']['total']:,} parameters less",
                 f"{cache('polyglot-ko-12.8b', context=1) * 1024:.2f} MiB a token", f"{cache('polyglot-ko-12.8b'):.2f} GiB",
                 f"of sixteen users {cache('polyglot-ko-12.8b', batch=16):.0f} GiB",
                 f"takes {cache('llama-2-70b', context=4096):.2f} GiB for 4,096 tokens",
                 f"takes {cache('llama-65b', context=4096):.0f} GiB", f"{kovicuna['memory']['weights'] / s.GIB:.2f} GiB",
                 f"is {more[0]:.0%} higher", f"{more[1]:.0%} for LLaMA-2-7B", f"{gpt3['flops']['tokens a parameter']:.2f}",
                 f"LLaMA-2-7B {llama['flops']['tokens a parameter']:.0f}", f"that is {busy:.0%} of what",
                 f"{gpt3['memory']['weights'] / s.GIB:.0f} GiB", f"{gpt3['memory']['total'] / s.GIB:,.0f}\nto learn"):
        assert said in CHAPTER, said
    assert polyglot["memory"]["weights"] < report("polyglot-ko-12.8b", batch=16)["memory"]["KV cache"]
