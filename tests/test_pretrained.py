"""Models in Hugging Face's layout: equal to what transformers computed (tests/golden), read, written, and broken."""
import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tinygrad_lm import no_grad
from tinygrad_lm.decode import decoder
from tinygrad_lm.generate import generate
from tinygrad_lm.models import GPT, GPTConfig, from_pretrained, save_pretrained
from tinygrad_lm.models.architectures import ARCHITECTURES
from tinygrad_lm.models.tensors import BrokenFile
from tinygrad_lm.models.transformer import KVCache

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(p.name for p in GOLDEN.iterdir() if p.is_dir() and not p.name.startswith("_"))
WRITERS = [name for name in NAMES if not name.startswith("bert")]
every = pytest.mark.parametrize("name", NAMES)


def computed(model, idx, targets):
    """(logits or hidden states, loss) of a model, as transformers' heads have them."""
    if getattr(model, "head", None) is None and not isinstance(model, GPT):
        y = model.hidden(idx)
        return y, (y ** 2).sum()
    return model(idx), model.loss(idx, targets)


def close(ours, theirs, rtol, what, least=0.0):
    """To rtol of the largest number there, or of `least`: some gradients, a key's bias's, are 0 but for rounding."""
    scale = max(np.abs(theirs).max(), least)
    assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= rtol * scale, what


def agrees(model, theirs, kind, rtol):
    """Logits (or hidden states), the loss, and the gradient for every tensor, of tests.golden.make.expected."""
    y, loss = computed(model, theirs["idx"], theirs["targets"])
    assert y.dtype == model.wte.weight.dtype
    close(y.data, theirs["y"], rtol, "y")
    close(loss.data, theirs["loss"], rtol, "loss")
    loss.backward()
    own, seen, least = dict(model.named_parameters()), set(), 0.01 * max(np.abs(theirs[k]).max() for k in theirs if "/" in k)
    prefix = "" if any(k.startswith("grad/" + ARCHITECTURES[kind].prefix) for k in theirs) else ARCHITECTURES[kind].prefix
    for place in ARCHITECTURES[kind].places(model):
        if place.ours in own:
            for name, g in zip(place.theirs, place.how.split(own[place.ours].grad, model.config)):
                key = "grad/" + name.removeprefix(prefix)
                close(g, theirs[key], rtol, key, least)
                seen.add(key)
    assert seen == {k for k in theirs if k.startswith("grad/")}, "every gradient has been compared"


@every
@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_a_golden_model(name, dtype, rtol):
    kind = json.loads((GOLDEN / name / "config.json").read_text())["model_type"]
    agrees(from_pretrained(GOLDEN / name, dtype=dtype), np.load(GOLDEN / name / "expected.npz"), kind, rtol)


@every
def test_written_back(name, tmp_path):
    """The same tensors under the same names, and the same settings when read again."""
    model = from_pretrained(GOLDEN / name)
    save_pretrained(model, tmp_path)
    ours, theirs = load_file(tmp_path / "model.safetensors"), load_file(GOLDEN / name / "model.safetensors")
    prefix = "bert." if name == "bert_body" else ""
    theirs = {prefix + key: x for key, x in theirs.items() if "pooler" not in key}
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    again = from_pretrained(tmp_path)
    assert again.config == model.config
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (GOLDEN / name, tmp_path))
    assert {key: new[key] for key in new.keys() & old.keys() if key not in ("dtype", "rope_parameters")} == \
        {key: old[key] for key in new.keys() & old.keys() if key not in ("dtype", "rope_parameters")} | \
        ({"n_inner": 32} if name == "gpt2" else {})
    if "rope_parameters" in old:
        assert new["rope_parameters"].items() >= old["rope_parameters"].items()


@pytest.mark.parametrize("name", WRITERS)
def test_writing_with_the_cache_is_reading_anew(name):
    """Greedy text equals that of a forward without a cache; a step reads what the whole text says, padded or not."""
    model, rng = from_pretrained(GOLDEN / name, dtype=np.float64), np.random.default_rng(0)
    idx = rng.integers(0, 11, (2, 4))
    text = generate(model, idx, 9, rng=rng, temperature=0).tokens
    for t in range(4, 13):
        np.testing.assert_array_equal(text[:, t], model(text[:, :t]).data[:, -1].argmax(-1))
    mask = np.array([[False, False, True, True], [True] * 4])
    with no_grad():
        cache = KVCache(model, 2)
        model(idx, mask=mask, cache=cache)
        step = decoder(model)(text[:, 4], cache)
        alone = model(np.concatenate([idx[:1, 2:], text[:1, 4:5]], axis=1)).data[:, -1]
    np.testing.assert_allclose(step[:1], alone, rtol=1e-9)


# ---- other ways in which weights lie ---------------------------------------------------------------------------------

def copy_of(name, folder):
    shutil.copytree(GOLDEN / name, folder)
    return folder, load_file(folder / "model.safetensors")


def test_parts_with_an_index(tmp_path):
    folder, tensors = copy_of("llama_grouped", tmp_path / "m")
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    idx = np.arange(8)[None]
    np.testing.assert_array_equal(from_pretrained(folder)(idx).data, from_pretrained(GOLDEN / "llama_grouped")(idx).data)
    (folder / "b.safetensors").unlink()
    with pytest.raises(BrokenFile, match="names parts that are not there: b.safetensors"):
        from_pretrained(folder)


def test_float16_and_bfloat16(tmp_path):
    folder, tensors = copy_of("gpt2", tmp_path / "m")
    save_file({name: x.astype(np.float16) for name, x in tensors.items()}, folder / "model.safetensors")
    w = from_pretrained(folder).wte.weight.data
    assert w.dtype == np.float32 and (w == tensors["transformer.wte.weight"].astype(np.float16)).all()
    entries, data = {}, b""
    for name, x in tensors.items():
        high = (x.view(np.uint32) >> 16).astype("<u2").tobytes()
        entries[name] = {"dtype": "BF16", "shape": x.shape, "data_offsets": [len(data), len(data) + len(high)]}
        data += high
    head = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)
    w, exact = from_pretrained(folder).wte.weight.data, tensors["transformer.wte.weight"]
    assert (w.view(np.uint32) == exact.view(np.uint32) & 0xffff0000).all()


def test_memory_while_loading(tmp_path):
    """The weights, and one tensor more."""
    model = GPT(GPTConfig(4000, 64, n_layer=6, n_head=4, n_embd=128))
    save_pretrained(model, tmp_path)
    weights = sum(p.data.nbytes for p in model.parameters())
    largest = max(p.data.nbytes for p in model.parameters())
    tracemalloc.start()
    try:
        again = from_pretrained(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert again.n_parameters() == model.n_parameters()
    assert peak < weights + 1.2 * largest + (1 << 19), (peak, weights, largest)


def test_gpt2_saved_without_its_head(tmp_path):
    """Names lack their first word then."""
    folder, tensors = copy_of("gpt2", tmp_path / "m")
    save_file({name.removeprefix("transformer."): x for name, x in tensors.items()} |
              {"h.0.attn.bias": np.ones((1, 1, 16, 16), np.float32)}, folder / "model.safetensors")
    idx = np.arange(8)[None]
    np.testing.assert_array_equal(from_pretrained(folder)(idx).data, from_pretrained(GOLDEN / "gpt2")(idx).data)


# ---- broken ----------------------------------------------------------------------------------------------------------

def test_every_tensor_that_does_not_fit_is_named(tmp_path):
    folder, tensors = copy_of("llama_grouped", tmp_path / "m")
    gone = tensors.pop("model.layers.1.self_attn.k_proj.weight")
    save_file(tensors | {"model.layers.7.x": gone}, folder / "model.safetensors")
    with pytest.raises(BrokenFile) as error:
        from_pretrained(folder)
    assert str(folder) in str(error.value)
    assert "missing: model.layers.1.self_attn.k_proj.weight" in str(error.value)
    assert "unknown: model.layers.7.x" in str(error.value)
    save_file(tensors | {"model.layers.1.self_attn.k_proj.weight": gone[:3]}, folder / "model.safetensors")
    with pytest.raises(BrokenFile, match=r"model.safetensors: the tensor model.layers.1.self_attn.k_proj.weight has shape "
                                         r"\(3, 8\), and by config.json it has \(4, 8\)"):
        from_pretrained(folder)


@pytest.mark.parametrize("keep, words", [(4, "is no safetensors file"), (40, "header"), (-10, "broken off")])
def test_a_file_that_is_broken_off(keep, words, tmp_path):
    folder, _ = copy_of("gpt2", tmp_path / "m")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BrokenFile, match=words) as error:
        from_pretrained(folder)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("change, words", [
    ({"model_type": "mamba"}, "'mamba' is not known here; known are gpt2"),
    ({"activation_function": "sinc"}, "'sinc' is not known"),
    ({"n_head": 3}, "n_embd=8 channels cannot be split evenly"),
    ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True is not built"),
    ({"n_embd": None}, "config.json")])
def test_settings_that_cannot_be(change, words, tmp_path):
    folder, _ = copy_of("gpt2", tmp_path / "m")
    settings = json.loads((folder / "config.json").read_text()) | change
    settings = {key: value for key, value in settings.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BrokenFile, match=words):
        from_pretrained(folder)


@pytest.mark.parametrize("name, change, words", [
    ("llama_grouped", {"rope_parameters": {"rope_type": "yarn"}}, "the rope scaling 'yarn' is not built here"),
    ("bert", {"tie_word_embeddings": False}, "a BERT whose head is not its embedding"),
    ("bert", {"is_decoder": True}, "or that sees the past only")])
def test_settings_that_would_be_another_network(name, change, words, tmp_path):
    folder, _ = copy_of(name, tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | change))
    with pytest.raises(BrokenFile, match=words):
        from_pretrained(folder)


@pytest.mark.parametrize("said, share", [
    ({}, 0.25), ({"rotary_pct": 0.5}, 0.5), ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 0.25),
    ({"partial_rotary_factor": 0.75}, 0.75), ({"rope_parameters": {"partial_rotary_factor": 1.0}, "rotary_pct": 0.5}, 1.0)])
def test_the_share_of_neox_in_every_way_of_saying_it(said, share, tmp_path):
    folder, _ = copy_of("neox_parallel", tmp_path / "m")
    s = json.loads((folder / "config.json").read_text())
    del s["rope_parameters"]
    (folder / "config.json").write_text(json.dumps(s | said))
    assert from_pretrained(folder).config.rotary_share == share


def test_settings_that_are_no_json(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BrokenFile, match="config.json is not JSON"):
        from_pretrained(tmp_path)
    with pytest.raises(BrokenFile, match="nowhere/config.json is not there"):
        from_pretrained(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(BrokenFile, match="says nothing about 'vocab_size', which gpt2 needs"):
        from_pretrained(tmp_path)


def test_a_shape_of_no_family_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="none of gpt2, gpt_neox, llama, bert has this model's shape"):
        save_pretrained(GPT(GPTConfig(11, 8, n_embd=8, norm="rms")), tmp_path)
    part_of_a_head = dict(norm="rms", position="rotary", rotary_share=0.5, gated=True, bias=False)       # LLaMA turns all of it
    with pytest.raises(ValueError, match="none of gpt2"):
        save_pretrained(GPT(GPTConfig(11, 8, n_embd=16, **part_of_a_head)), tmp_path)
    assert not list(tmp_path.iterdir())
