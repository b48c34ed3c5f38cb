"""Low-rank adapters: gradients, what trains and what stays, merged and taken apart, saved alone in PEFT's layout, and every
file that does not fit."""
import json
from copy import deepcopy
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from safetensors.numpy import load_file, save_file

from tinygrad_lm import Tensor, no_grad, tensor
from tinygrad_lm.checkpoint import CheckpointError, load, pack, save
from tinygrad_lm.generate import generate
from tinygrad_lm.models import BERT, GPT, FeedForward, FeedForwardConfig, RewardModel, quantised, save_pretrained
from tinygrad_lm.models.lora import LoRA, adapters, add_adapters, merge, remove_adapters, unmerge
from tinygrad_lm.models.peft import load_adapters, save_adapters
from tinygrad_lm.models.saved import describe, load_model
from tinygrad_lm.models.size import n_lora, training
from tinygrad_lm.models.tensors import BrokenFile
from tinygrad_lm.nn import Linear
from tinygrad_lm.optim import AdamW
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.train import train_step

from . import checks
from .test_transformer import BERTS, SHAPES, T, V, build, ids

MODELS = SHAPES | {"bert": BERTS, "untied": dict(n_head=2, tied=False)}
every = pytest.mark.parametrize("name", MODELS)


def made(name, **more):
    return build(BERT if name.startswith("bert") else GPT, **MODELS[name] | more)


def with_adapters(name, rank=2, where=("blocks",), seed=0, **more):
    """A model whose adapters have learned something."""
    rng = np.random.default_rng(seed)
    model = add_adapters(made(name, **more), rank, alpha=3, where=where, rng=rng)
    for a in adapters(model).values():
        a.B.data[...] = rng.normal(0, 0.3, a.B.shape)
    return model


def trained(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


# ---- the layer -------------------------------------------------------------------------------------------------------

@st.composite
def layers(draw):
    """x, W, b, A, B and what the layer's result is added to, of random sizes."""
    n, n_in, n_out, rank = (draw(st.integers(1, 4)) for _ in range(4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = (2, n, n_in), (n_out, n_in), (n_out,), (rank, n_in), (n_out, rank), (2, n, n_out)
    return [rng.normal(size=shape) for shape in shapes]


def adapted_layer(w, b, A, B):
    """A Linear with these tensors as its parameters, and those of its adapter."""
    layer = Linear(1, 1, rng=np.random.default_rng(0))
    layer.weight, layer.bias, layer.adapter = w, b, LoRA(np.zeros((A.shape[0], 1)), np.zeros((1, A.shape[0])), 3, like=w)
    layer.adapter.A, layer.adapter.B = A, B
    return layer


@given(layers(), st.booleans())
def test_gradients_and_the_composed_form(device, drawn, adds):
    """Of all inputs: x (W + (α / r) B A)ᵀ + b, plus what it is added to."""
    *drawn, residual = drawn

    def ours(x, w, b, A, B, *more):
        return adapted_layer(w, b, A, B)(x, *more)

    def composed(x, w, b, A, B, *more):
        y = x @ (w + (3 / A.shape[0]) * (B @ A)).T + b
        return y + more[0] if more else y

    checks.check_same(ours, composed, *drawn, *([residual] if adds else []))


@given(layers())
def test_decoding_reads_the_whole_weight(drawn):
    x, w, b, A, B, _ = drawn
    layer = adapted_layer(*(Tensor(a) for a in (w, b, A, B)))
    np.testing.assert_allclose(x @ layer.whole().T + b, layer(Tensor(x)).data, rtol=1e-12, atol=1e-12)


# ---- in a model ------------------------------------------------------------------------------------------------------

@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_changes_at_first(name, dtype):
    """To the bit: B is zero."""
    model, rng = made(name).to(dtype), np.random.default_rng(0)
    before = model(ids()).data
    add_adapters(model, 3, rng=rng)
    assert before.tobytes() == model(ids()).data.tobytes()
    for layer, a in adapters(model).items():
        assert a.A.dtype == dtype and a.A.data.std() > 0 and not a.B.data.any(), layer


@every
def test_every_layer_of_the_blocks_counts(name):
    """The output changes with the B of each layer alone."""
    model, rng = made(name), np.random.default_rng(0)
    plain = add_adapters(model, 2, rng=rng)(ids()).data
    assert len(adapters(model)) == 2 * (5 if MODELS[name].get("gated") else 4)
    for layer, a in adapters(model).items():
        a.B.data[...] = rng.normal(size=a.B.shape)
        assert abs(model(ids()).data - plain).max() > 1e-6, layer
        a.B.data[...] = 0


@every
def test_merging(name):
    """The same outputs, in either form; and to the bit the same weights afterwards."""
    model = with_adapters(name)
    before, adapted = deepcopy(model.state_dict()), model(ids()).data
    assert abs(adapted - made(name)(ids()).data).max() > 1e-2
    for _ in range(2):                                                     # merging what is merged changes nothing
        np.testing.assert_allclose(merge(model)(ids()).data, adapted, rtol=1e-10, atol=1e-10)
    assert any((model.state_dict()[key] != before[key]).any() for key in before)
    for _ in range(2):
        unmerge(model)
    assert all(model.state_dict()[key].tobytes() == before[key].tobytes() for key in before)
    assert model(ids()).data.tobytes() == adapted.tobytes()
    plain = remove_adapters(merge(model))
    assert not adapters(plain) and plain.state_dict().keys() == made(name).state_dict().keys()
    np.testing.assert_allclose(plain(ids()).data, adapted, rtol=1e-10, atol=1e-10)


def test_unmerging_in_another_type():
    model = with_adapters("gpt2")
    plain = {key: a.astype("f4") for key, a in model.state_dict().items()}
    unmerge(merge(model).to(np.float32))
    assert all(a.dtype == "f4" and (a == plain[key]).all() for key, a in model.state_dict().items())


def test_merged_adapters_do_not_train():
    model = with_adapters("gpt2")
    opt = AdamW(model.parameters())
    merge(model)
    with pytest.raises(RuntimeError, match="requires no gradient"):
        train_step(model, opt, ids(), ids())


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox", "untied"])
def test_writing(name):
    """With a cache, on the chain of arrays of decode.py, as without one; the adapters count."""
    where = ("blocks", "head") if MODELS[name].get("tied") is False else ("blocks",)
    model, idx = with_adapters(name, where=where), ids()[:, :2]
    text = generate(model, idx, T - 2, rng=np.random.default_rng(0), temperature=0).tokens
    with no_grad():
        for t in range(2, T):
            idx = np.concatenate([idx, model(idx).data[:, -1].argmax(-1, keepdims=True)], 1)
    np.testing.assert_array_equal(text, idx)
    plain = generate(made(name), idx[:, :2], T - 2, rng=np.random.default_rng(0), temperature=0).tokens
    assert (plain != text).any()


# ---- training --------------------------------------------------------------------------------------------------------

@every
def test_only_the_adapters_train(name, monkeypatch):
    """No gradient of a frozen weight is computed; its bytes stay; the optimizer's buffers have the adapters' size, which is
    what models/size.py says."""
    model = made(name)
    add_adapters(model, 2, rng=np.random.default_rng(0))
    assert trained(model) == [key for key, _ in model.named_parameters() if ".adapter." in key]
    opt = AdamW(model.parameters(), lr=1e-2)
    frozen = {key: p.data.copy() for key, p in model.named_parameters() if not p.requires_grad}
    n = n_lora(model.config, 2)
    assert opt.flat.size == opt.flat_grad.size == opt.m.size == opt.v.size == n
    size = training(model.config, T, 1, "float32", lora=2)
    assert opt.flat_grad.nbytes == 2 * size["gradients"] and opt.m.nbytes + opt.v.nbytes == 2 * size["optimizer"]   # float64

    wanted = []
    monkeypatch.setattr(tensor, "_receive", lambda leaf, g, receive=tensor._receive: (wanted.append(leaf), receive(leaf, g)))
    losses = [train_step(model, opt, ids(), ids(2, 1), workers=1) for _ in range(8)]
    assert losses[-1] < losses[0]
    own = {id(p) for a in adapters(model).values() for p in (a.A, a.B)}
    assert {id(leaf) for leaf in wanted} == own
    for key, p in model.named_parameters():
        assert (p.grad is not None) == p.requires_grad, key
        assert p.requires_grad or p.data.tobytes() == frozen[key].tobytes(), key
    assert all(a.B.data.any() for a in adapters(model).values())


def test_products_that_nobody_asked_for_are_not_computed():
    """The graph asks for gradients of adapters alone, and not even for one of what the first of them reads."""
    model = add_adapters(made("neox"), 2, rng=np.random.default_rng(0))
    root = model.loss(ids(), ids()).node
    nodes = tensor._from_the_root(root)
    leaves = [t for node in nodes for t in node.inputs if isinstance(t, Tensor)]
    assert {id(t) for t in leaves} == {id(p) for a in adapters(model).values() for p in (a.A, a.B)} and len(leaves) == 16
    first = adapters(model)["blocks.0.attn.qkv"].A
    assert [node.inputs[0] for node in nodes if any(t is first for t in node.inputs)] == [None]


def test_two_threads_give_the_same_adapters():
    states = []
    for workers in (1, 2):
        model = add_adapters(made("llama"), 2, rng=np.random.default_rng(0))
        opt = AdamW(model.parameters(), lr=1e-2)
        for seed in range(3):
            train_step(model, opt, ids(4, seed), ids(4, seed + 1), workers=workers)
        states.append(model.state_dict())
    for key in states[0]:
        np.testing.assert_allclose(states[0][key], states[1][key], rtol=1e-8, atol=1e-10, err_msg=key)


def test_the_work_of_a_step_counts_frozen_weights():
    model = add_adapters(made("gpt2"), 1, rng=np.random.default_rng(0))
    assert AdamW(model.parameters()).n_parameters == model.n_parameters() > 8 * n_lora(model.config, 1)


def test_blocks_computed_again():
    """model.checkpoint_blocks: the same gradients, though nothing that a block is given requires one."""
    gradients = []
    for again in (False, True):
        model = with_adapters("gpt2")
        model.checkpoint_blocks = again
        model.loss(ids(), ids()).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_models():
    """A reward model, whose head trains along when the body is given; Bengio's network; a BERT's head."""
    reward = RewardModel(made("gpt2"), rng=np.random.default_rng(0)).to(np.float64)
    add_adapters(reward.body, 2, rng=np.random.default_rng(0))
    assert {key for key in trained(reward) if ".adapter." not in key} == {"weight", "bias"}
    reward(ids(), np.array([3, 5])).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in reward.parameters())
    small = FeedForward(FeedForwardConfig(V, 3, 4, 5))
    before = small(ids()).data
    add_adapters(small, 2, where=("hidden", "head"), rng=np.random.default_rng(0))
    assert (small(ids()).data == before).all() and len(adapters(small)) == 2
    bert = add_adapters(made("bert"), 1, where=("head.fc", "blocks.1.mlp"), rng=np.random.default_rng(0))
    assert list(adapters(bert)) == ["blocks.1.mlp.fc", "blocks.1.mlp.proj", "head.fc"]


@pytest.mark.parametrize("where, rank, words", [
    (("q_proj",), 1, "no linear layer of this GPT has 'q_proj' in its name; there are blocks.0.attn.qkv, "),
    (("block",), 1, "has 'block' in its name"), (("blocks",), 0, "at least 1, not 0")])
def test_what_cannot_be_adapted(where, rank, words):
    model = made("gpt2")
    with pytest.raises(ValueError, match=words):
        add_adapters(model, rank, where=where, rng=np.random.default_rng(0))
    assert len(trained(model)) == len(model.parameters())


def test_what_would_lose_adapters_is_refused(tmp_path):
    model = with_adapters("gpt2")
    for attempt in (lambda: add_adapters(model, 1, rng=np.random.default_rng(0)), lambda: quantised.quantise(model, "int8"),
                    lambda: save_pretrained(model, tmp_path), lambda: load_adapters(model, tmp_path)):
        with pytest.raises(ValueError, match=r"has adapters, on blocks.0.attn.qkv and 7 more layers: .*merge\(model\)"):
            attempt()


# ---- checkpoints -----------------------------------------------------------------------------------------------------

def test_a_checkpoint_has_them(tmp_path):
    model, tokenizer = with_adapters("gpt2").to(np.float32), CharTokenizer("abcde")
    save(tmp_path / "x", pack({"model": model})[0], describe(model, tokenizer))
    again, _, _ = load_model(tmp_path / "x")
    assert trained(again) == trained(model) and [a.scale for a in adapters(again).values()] == [1.5] * 8
    assert again(ids()).data.tobytes() == model(ids()).data.tobytes()
    reward = RewardModel(model, rng=np.random.default_rng(0))
    save(tmp_path / "y", pack({"model": reward})[0], describe(reward, tokenizer))
    assert len(adapters(load_model(tmp_path / "y", "reward")[0])) == 8
    with pytest.raises(ValueError, match="merged, and a checkpoint would add them a second time"):
        describe(merge(model), tokenizer)
    tensors, meta = load(tmp_path / "x")
    meta["adapters"]["blocks.7.attn.qkv"] = meta["adapters"].pop("blocks.0.attn.qkv")
    save(tmp_path / "z", tensors, meta)
    with pytest.raises(CheckpointError, match="holds no model: it says nothing about 'blocks.7.attn.qkv'"):
        load_model(tmp_path / "z")


# ---- in PEFT's layout ------------------------------------------------------------------------------------------------

LAYOUT = {"gpt2": ("transformer.h.0.attn.c_attn", 1), "neox": ("gpt_neox.layers.0.attention.query_key_value", 1),
          "llama": ("model.layers.0.self_attn.q_proj", 3), "bert": ("bert.encoder.layer.0.attention.self.query", 3)}


@pytest.mark.parametrize("name", LAYOUT)
def test_saved_alone_and_loaded(name, tmp_path):
    """The same tensors to the bit, the same rank and outputs; nothing of the base in the file."""
    model = with_adapters(name)
    save_adapters(model, tmp_path, base="a name")
    module, parts = LAYOUT[name]
    stored = load_file(tmp_path / "adapter_model.safetensors")
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    qkv = adapters(model)["blocks.0.attn.qkv"]
    np.testing.assert_array_equal(stored[f"base_model.model.{module}.lora_A.weight"], qkv.A.data)
    B = stored[f"base_model.model.{module}.lora_B.weight"]
    assert B.shape == ((len(qkv.B) // 2 if name == "llama" else len(qkv.B) // parts), 2)
    n = len(adapters(model)) + 2 * (parts - 1)
    assert len(stored) == 2 * n and len(said["target_modules"]) == n and module in said["target_modules"]
    assert (said["r"], said["lora_alpha"], said["rank_pattern"], said["alpha_pattern"]) == (2, 3, {}, {})
    assert (said["fan_in_fan_out"], said["base_model_name_or_path"]) == (name == "gpt2", "a name")
    again = load_adapters(made(name), tmp_path)
    assert trained(again) == trained(model)
    for key, a in adapters(model).items():
        other = adapters(again)[key]
        assert other.scale == a.scale
        assert (other.A.data.tobytes(), other.B.data.tobytes()) == (a.A.data.tobytes(), a.B.data.tobytes())
    assert again(ids()).data.tobytes() == model(ids()).data.tobytes()
    save_adapters(merge(again), tmp_path / "merged")                       # the base is known also while they are merged
    load_adapters(made(name), tmp_path / "merged")


@pytest.mark.parametrize("name", LAYOUT)
def test_their_product_is_what_merging_adds_to_their_weights(name, tmp_path):
    """(α / r) B A of every tensor in the file, as the weights lie in Hugging Face's layout: rows where they belong."""
    model = with_adapters(name)
    save_adapters(model, tmp_path / "adapters")
    save_pretrained(made(name), tmp_path / "base")
    save_pretrained(remove_adapters(merge(model)), tmp_path / "merged")
    stored = load_file(tmp_path / "adapters" / "adapter_model.safetensors")
    base, merged = (load_file(tmp_path / folder / "model.safetensors") for folder in ("base", "merged"))
    products = {key.removeprefix("base_model.model.").replace(".lora_A", ""): 1.5 * stored[key.replace("_A", "_B")] @ A
                for key, A in stored.items() if "lora_A" in key}
    assert products.keys() == {key for key in base if (base[key] != merged[key]).any()}
    for key, product in products.items():
        np.testing.assert_allclose(merged[key] - base[key], product.T if name == "gpt2" else product, rtol=1e-9, atol=1e-12)


def test_saved_before_anything_was_learned(tmp_path):
    model = add_adapters(made("llama"), 2, rng=np.random.default_rng(0))
    save_adapters(model, tmp_path)
    again = load_adapters(made("llama"), tmp_path)
    assert [a.rank for a in adapters(again).values()] == [2] * 10


@given(st.sets(st.sampled_from("qkv"), min_size=1), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=12)
def test_three_adapters_become_one(wanted, seed, uneven):
    """Of queries, keys and values, each with its own A, some of them missing, or of other ranks and scales: the outputs of
    each are x Wᵀ + (α / r) (x Aᵀ) Bᵀ; saved again they are the same three, whose zeros are not stored."""
    rng, plain = np.random.default_rng(seed), made("llama")
    tensors, ranks, alphas, change = {}, {}, {}, []
    rows = {"q": 8, "k": 4, "v": 4}
    for part in "qkv":
        r = int(rng.integers(1, 4)) if uneven else 2
        alpha = int(rng.integers(1, 9)) if uneven else 6
        module, A, B = f"model.layers.1.self_attn.{part}_proj", rng.normal(size=(r, 8)), rng.normal(size=(rows[part], r))
        if part in wanted:
            tensors |= {f"base_model.model.{module}.lora_A.weight": A, f"base_model.model.{module}.lora_B.weight": B}
            ranks[f"{part}_proj"], alphas[f"layers.1.self_attn.{part}_proj"] = r, alpha
        change.append(alpha / r * B @ A * (part in wanted))
    with TemporaryDirectory() as folder:
        write(folder, tensors, r=2, lora_alpha=6, rank_pattern=ranks, alpha_pattern=alphas)
        model = load_adapters(made("llama"), folder)
        plain.blocks[1].attn.qkv.weight.data += np.concatenate(change)
        np.testing.assert_allclose(model(ids()).data, plain(ids()).data, rtol=1e-10, atol=1e-10)
        assert adapters(model)["blocks.1.attn.qkv"].rank == sum(ranks.values())
        save_adapters(model, folder)
        again = load_file(f"{folder}/adapter_model.safetensors")
        assert again.keys() == tensors.keys()
        assert all(again[key].shape == tensors[key].shape for key in tensors)
        again = load_adapters(made("llama"), folder)
        np.testing.assert_allclose(again(ids()).data, plain(ids()).data, rtol=1e-10, atol=1e-10)


def test_rank_stabilised_scale(tmp_path):
    """α / √r, which PEFT calls rslora."""
    save_adapters(with_adapters("gpt2"), tmp_path)
    change(tmp_path, use_rslora=True)
    assert adapters(load_adapters(made("gpt2"), tmp_path))["blocks.0.attn.qkv"].scale == pytest.approx(3 / 2 ** 0.5)


def test_a_body_without_its_head(tmp_path):
    """Its names lack the body's prefix, in either direction."""
    model = with_adapters("bert")
    model.head = None
    save_adapters(model, tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert "base_model.model.encoder.layer.0.intermediate.dense.lora_A.weight" in stored
    again = load_adapters(made("bert"), tmp_path)
    assert again.hidden(ids()).data.tobytes() == model.hidden(ids()).data.tobytes()


def write(folder, tensors, **said):
    save_file(tensors, f"{folder}/adapter_model.safetensors")
    with open(f"{folder}/adapter_config.json", "w") as file:
        json.dump({"peft_type": "LORA", "r": 2, "lora_alpha": 3} | said, file)


def change(folder, **said):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


def edit(folder, how):
    tensors = load_file(folder / "adapter_model.safetensors")
    how(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


A0 = "base_model.model.transformer.h.0.mlp.c_fc.lora_A.weight"
BROKEN = {
    "no folder": (lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json is not there"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is not there"),
    "no JSON": (lambda f: (f / "adapter_config.json").write_text("{"), "adapter_config.json is not JSON"),
    "another kind": (lambda f: change(f, peft_type="IA3"), "adapter_config.json: adapters of the type 'IA3' are not built"),
    "no rank": (lambda f: change(f, r=None), "'r' is a number above 0, not None"),
    "DoRA": (lambda f: change(f, use_dora=True), "use_dora=True is not built here"),
    "biases": (lambda f: change(f, bias="all", init_lora_weights="pissa"), "bias='all', init_lora_weights='pissa' is not"),
    "another rank": (lambda f: change(f, r=4), r"tensor base_model.model.transformer.h.0.attn.c_attn.lora_A.weight has "
                     r"shape \(2, 8\), and of rank 4 by adapter_config.json, for this model's layer, it has \(4, 8\)"),
    "another shape": (lambda f: edit(f, lambda t: t.update({A0: t[A0][:, 1:].copy()})), r"c_fc.lora_A.* has shape \(2, 7\)"),
    "half": (lambda f: edit(f, lambda t: t.pop(A0)), f"missing: {A0}"),
    "unknown": (lambda f: edit(f, lambda t: t.update({A0.replace("h.0", "h.9"): t[A0].copy()})), "unknown: .*h.9.mlp"),
    "none": (lambda f: edit(f, lambda t: t.clear()), "there are none"),
    "broken off": (lambda f: (f / "adapter_model.safetensors").write_bytes(b"x" * 20), "is no safetensors file")}


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_refused(what, tmp_path):
    save_adapters(with_adapters("gpt2"), tmp_path)
    how, words = BROKEN[what]
    how(tmp_path)
    model = made("gpt2")
    with pytest.raises(BrokenFile, match=words) as error:
        load_adapters(model, tmp_path)
    assert str(tmp_path) in str(error.value) and not adapters(model) and len(trained(model)) == len(model.parameters())


def test_another_base_is_refused(tmp_path):
    save_adapters(with_adapters("gpt2"), tmp_path)
    other = made("gpt2")
    other.blocks[1].mlp.fc.weight.data[0, 0] += 1e-6
    with pytest.raises(BrokenFile, match=r"adapter_model.safetensors: .*another base: the model's blocks.1.mlp.fc.weight "):
        load_adapters(other, tmp_path)
    load_adapters(other.to(np.float32), tmp_path)                          # in another type nobody can tell


@pytest.mark.parametrize("name, modules", [("gpt2", ("wte", "ln_f")), ("gpt2", ("wpe", "blocks.0.ln1")),
                                           ("llama", ("blocks.0.attn.qkv",)),
                                           ("neox", ("ln_f",)), ("bert", ("wse", "ln")), ("untied", ("head",))])
def test_modules_that_train_whole_go_with_the_adapters(name, modules, tmp_path):
    model = with_adapters(name, where=("mlp",))
    for n, p in model.named_parameters():
        if n.rpartition(".")[0] in modules:
            p.data += np.random.default_rng(1).normal(0, 0.3, p.shape)
            p.requires_grad = True
    save_adapters(model, tmp_path)
    again = load_adapters(made(name), tmp_path)
    np.testing.assert_allclose(again(ids()).data, model(ids()).data, rtol=1e-12)
    assert trained(again) == trained(model)
    assert np.abs(made(name)(ids()).data - model(ids()).data).max() > 0.1


def test_whole_modules_that_do_not_fit_are_refused(tmp_path):
    model = with_adapters("gpt2")
    model.wte.weight.requires_grad = model.wpe.weight.requires_grad = True
    save_adapters(model, tmp_path)
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    assert said["modules_to_save"] == ["lm_head", "transformer.wpe", "transformer.wte"]
    for change, words in ((["wpe"], "unknown: base_model.model.transformer.wte.weight"),
                          (["wpe", "wte", "ln_f", "lm_head"], "missing: base_model.model.transformer.ln_f.weight")):
        (tmp_path / "adapter_config.json").write_text(json.dumps(said | {"modules_to_save": change}))
        with pytest.raises(BrokenFile, match=words):
            load_adapters(made("gpt2"), tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(said))
    for how in (lambda t: t.pop("base_model.model.lm_head.weight"),
                lambda t: t.update({"base_model.model.lm_head.weight": t["base_model.model.transformer.wte.weight"] + 1})):
        save_adapters(model, tmp_path)
        edit(tmp_path, how)
        with pytest.raises(BrokenFile, match="the token embedding and lm_head were not trained as one"):
            load_adapters(made("gpt2"), tmp_path)
    save_adapters(model, tmp_path)
    edit(tmp_path, lambda t: t.update({"base_model.model.transformer.wpe.weight": np.zeros((1, 8))}))
    with pytest.raises(BrokenFile, match=r"transformer.wpe.weight has shape \(1, 8\), and of this model it has"):
        load_adapters(made("gpt2"), tmp_path)


def test_what_has_no_such_layout(tmp_path):
    with pytest.raises(TypeError, match="not a RewardModel: of a reward model give the body"):
        save_adapters(RewardModel(made("gpt2")), tmp_path)
    with pytest.raises(ValueError, match="has no adapters to save"):
        save_adapters(made("gpt2"), tmp_path)
    model = with_adapters("bert")
    model.wte.weight.requires_grad = True
    with pytest.raises(ValueError,
                       match="not only the adapters train, but wte, which PEFT cannot keep of a BERT with a head"):
        save_adapters(model, tmp_path)
    with pytest.raises(ValueError, match="none of gpt2, gpt_neox, llama, bert has this model's shape"):
        load_adapters(made("relu"), tmp_path)
