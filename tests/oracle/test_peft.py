"""PEFT, live: adapters on random models, saved there and read here, and written here and read there."""
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.test_pretrained import close
from tinygrad_lm.models import from_pretrained
from tinygrad_lm.models.lora import adapters, add_adapters, merge, remove_adapters
from tinygrad_lm.models.peft import load_adapters, save_adapters

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
from test_transformers import built, every, in_float64, seeds, text, their_logits          # noqa: E402 (needs torch)

pytestmark = pytest.mark.oracle

LAYERS = {"gpt2": ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"],
          "gpt_neox": ["query_key_value", "attention.dense", "dense_h_to_4h", "dense_4h_to_h"],
          "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
          "bert": ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]}


@settings(max_examples=40)
@given(every, seeds, st.data())
def test_theirs_are_read_here(config, seed, data):
    """Some of the layers, with ranks and scales of their own: logits to rounding, as adapters and merged."""
    draw = data.draw
    layers = draw(st.lists(st.sampled_from(LAYERS[config.model_type]), min_size=1, unique=True))
    numbers = st.dictionaries(st.sampled_from(layers), st.integers(1, 5), max_size=2)
    said = peft.LoraConfig(r=draw(st.integers(1, 4)), lora_alpha=draw(st.integers(1, 9)), target_modules=layers,
                           rank_pattern=draw(numbers), alpha_pattern=draw(numbers), use_rslora=draw(st.booleans()),
                           init_lora_weights=False, lora_dropout=0.5)
    with TemporaryDirectory() as base, TemporaryDirectory() as folder:
        there = built(config, seed)
        there.save_pretrained(base)
        there = peft.get_peft_model(in_float64(there), said).eval()
        there.save_pretrained(folder)
        here, idx = load_adapters(from_pretrained(base, dtype=np.float64), folder), text(seed)
        theirs = their_logits(there, idx)
        close(here(idx).data, theirs, 1e-6, "logits")                      # adapters are saved in float32
        assert np.abs(from_pretrained(base, dtype=np.float64)(idx).data - theirs).max() > 1e-4 * np.abs(theirs).max()
        close(remove_adapters(merge(here))(idx).data, theirs, 1e-6, "logits, merged")


@settings(max_examples=40)
@given(every, seeds, st.integers(1, 4), st.sets(st.sampled_from(["qkv", "attn", "mlp", "mlp.fc", "blocks.0"]), min_size=1))
def test_ours_are_read_there(config, seed, rank, where):
    """Every tensor finds its place, and PEFT's logits are ours."""
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as base, TemporaryDirectory() as folder:
        there = built(config, seed)
        there.save_pretrained(base)
        here, idx = from_pretrained(base, dtype=np.float64), text(seed)
        add_adapters(here, rank, alpha=3, where=sorted(where), rng=rng)
        for a in adapters(here).values():
            a.B.data[...] = rng.normal(0, 0.3, a.B.shape)
        save_adapters(here, folder, base=base)
        there = peft.PeftModel.from_pretrained(in_float64(there), folder, autocast_adapter_dtype=False).eval()
        stored = {key.replace(".default.", "."): x for key, x in there.state_dict().items() if "lora_" in key}
        said = json.loads((Path(folder) / "adapter_config.json").read_text())
        assert len(stored) == 2 * len(said["target_modules"])
        close(here(idx).data, their_logits(there, idx), 1e-10, "logits")
        close(here(idx).data, their_logits(there.merge_and_unload(), idx), 1e-10, "logits, merged there")


WHOLE = {"gpt2": [["wpe"], ["ln_f", "h.0.ln_1"], ["wte", "lm_head"]],
         "gpt_neox": [["embed_in", "lm_head"], ["final_layer_norm"]],
         "llama": [["embed_tokens", "lm_head"], ["norm"], ["layers.0.self_attn.k_proj", "input_layernorm"]],
         "bert": [["embeddings.LayerNorm", "position_embeddings"], ["layer.0.attention.self.value"]]}


@settings(max_examples=40)
@given(every, seeds, st.data())
def test_modules_that_they_trained_whole_are_read_here(config, seed, data):
    """Embeddings, norms, heads, some layers: of what is one there and here, and of thirds of what is one here."""
    whole = data.draw(st.sampled_from(WHOLE[config.model_type]))
    said = peft.LoraConfig(r=2, target_modules=LAYERS[config.model_type][-1:], modules_to_save=whole,
                           init_lora_weights=False)
    with TemporaryDirectory() as base, TemporaryDirectory() as folder:
        there = built(config, seed)
        there.save_pretrained(base)
        there = in_float64(peft.get_peft_model(there, said))
        moved = [p for name, p in there.named_parameters() if "modules_to_save" in name]
        assert moved
        torch.manual_seed(seed)
        tied = there.get_base_model().config.tie_word_embeddings and "lm_head" in whole
        change = 0.1 * torch.randn(moved[0].shape, dtype=torch.float64)
        for p in moved:
            p.data += change if tied else 0.1 * torch.randn(p.shape, dtype=torch.float64)
        there.save_pretrained(folder)
        idx = text(seed)
        here = from_pretrained(base, dtype=np.float64)
        close(load_adapters(here, folder)(idx).data, their_logits(there, idx), 1e-6, "logits")


@settings(max_examples=40)
@given(every, seeds, st.sampled_from([["ln_f", "ln"], ["wte"], ["wpe", "wse"], ["head"], ["wse"], ["blocks.0.attn.qkv"],
                                      ["blocks.0.ln1"]]))
def test_modules_trained_whole_here_are_read_there(config, seed, whole):
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as base, TemporaryDirectory() as folder:
        there = built(config, seed)
        there.save_pretrained(base)
        here, idx = from_pretrained(base, dtype=np.float64), text(seed)
        add_adapters(here, 2, alpha=3, where=["mlp"], rng=rng)
        for a in adapters(here).values():
            a.B.data[...] = rng.normal(0, 0.3, a.B.shape)
        for name, p in here.named_parameters():
            if name.rpartition(".")[0] in whole:
                p.data += rng.normal(0, 0.1, p.shape)
                p.requires_grad = True
        try:
            save_adapters(here, folder, base=base)
        except ValueError as error:
            assert "which PEFT cannot keep of a BERT" in str(error)
            assert config.model_type == "bert" and {*whole} & {"wte", "head"}
            return
        there = in_float64(peft.PeftModel.from_pretrained(there.double(), folder, autocast_adapter_dtype=False))
        close(here(idx).data, their_logits(there, idx), 1e-10, "logits")
        again = load_adapters(from_pretrained(base, dtype=np.float64), folder)
        close(again(idx).data, here(idx).data, 1e-12, "logits, read again")
