"""Adapters alone, in the layout of Hugging Face's PEFT: adapter_config.json and adapter_model.safetensors.

PEFT names an adapter after the linear layer of Hugging Face's model that it belongs to. Where three layers there are one
here (queries, keys and values of LLaMA and BERT), an adapter of ours is three of theirs that have the same A, and of B their
own rows. Three of theirs, each with its own A, are one of ours of three times the rank, whose B is zero outside of three
blocks.
"""
import json
import re
import zlib
from collections import Counter
from math import sqrt
from pathlib import Path

import numpy as np

from ..backend import beside, to_host
from ..checkpoint import replace
from .architectures import ARCHITECTURES, SAME
from .bert import BERT
from .lora import LoRA, adapted, linears, refuse_adapters
from .peft_whole import (PREFIX, check_tied, in_memory, module_of, places_of, read_whole, refuse_what_is_not_kept,
                         tensors_of, tied_head, trained_whole, wanted)
from .pretrained import architecture_of
from .tensors import BrokenFile, header, read_json, read_tensor
from .transformer import GPT

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PLAIN = {"bias": "none", "use_dora": False, "lora_bias": False, "layer_replication": None,
         "layers_to_transform": None, "use_qalora": False, "alora_invocation_tokens": None, "trainable_token_indices": None,
         "target_parameters": None, "use_bdlora": None, "velora_config": None, "arrow_config": None, "kasa_config": None,
         "monteclora_config": None}                      # what else changes the mathematics there, as it is when it does not
STARTS = (True, False, "gaussian", "orthogonal", "eva")  # ways to begin that leave the base's weights as they are


def save_adapters(model, folder, *, base=None):
    """Write the model's adapters, and the modules of which more trains than an adapter (`modules_to_save` there), so that
    `load_adapters`, and PEFT, read them: atomically, file by file.

    base: the name or folder of the model that they were trained on, which PEFT looks up. Our own `load_adapters` compares
    the base's weights, of which the file keeps checksums.
    """
    from safetensors.numpy import save
    kind, homes = homes_of(model)
    if not adapted(model):
        raise ValueError(f"this {type(model).__name__} has no adapters to save: see add_adapters")
    also = trained_whole(model)
    refuse_what_is_not_kept(model, also)
    prefix = ARCHITECTURES[kind].prefix if kind == "bert" and model.head is None else ""           # a body's names lack it
    tensors, ranks, alphas = {}, {}, {}
    for name, layer in adapted(model):
        modules, rows = homes[name]
        A, B = layer.adapter.A.numpy(), layer.adapter.B.numpy()
        for module, part in zip((m.removeprefix(prefix) for m in modules), rows.split(B, model.config)):
            used = part.any(0) if len(modules) > 1 and B.any() else np.full(len(A), True)          # of another block: zeros
            if used.any():
                tensors |= {key: np.ascontiguousarray(x) for key, x in zip(keys(module), (A[used], part[:, used]))}
                ranks[module] = int(used.sum())
                alphas[module] = layer.adapter.alpha if used.all() else layer.adapter.scale * ranks[module]
    whole = {PREFIX + name.removeprefix(PREFIX).removeprefix(prefix): x for name, x in tensors_of(model, also).items()}
    rank, alpha = (Counter(x.values()).most_common(1)[0][0] for x in (ranks, alphas))
    settings = {"peft_type": "LORA", "task_type": None if kind == "bert" else "CAUSAL_LM", "base_model_name_or_path": base,
                "r": rank, "lora_alpha": alpha, "target_modules": sorted(ranks), "lora_dropout": 0.0, "bias": "none",
                "rank_pattern": {m: r for m, r in ranks.items() if r != rank},
                "alpha_pattern": {m: a for m, a in alphas.items() if a != alpha}, "fan_in_fan_out": kind == "gpt2",
                "init_lora_weights": True, "use_rslora": False, "use_dora": False,
                "modules_to_save": sorted({module_of(name).removeprefix(PREFIX) for name in whole}) or None,
                "inference_mode": True}
    folder = Path(folder)
    replace(folder / WEIGHTS, save(tensors | whole, {"format": "pt", "base": json.dumps(checksums(model))}))
    replace(folder / SETTINGS, json.dumps(settings, indent=2).encode() + b"\n")


def load_adapters(model, folder):
    """Give the model the adapters that lie in `folder`, written here or by PEFT, and freeze the rest, but for modules that
    were trained whole (`modules_to_save`), which are read, too; returns the model.

    An adapter that is none of this model's, that lacks a half or has another shape, one of another base, a setting that is
    not built here: a BrokenFile that names file and tensor. Dropout is for training, and not read.
    """
    folder = Path(folder)
    kind, homes = homes_of(model)
    refuse_adapters(model, "others cannot be loaded")
    scale_of, rank_of, said = read_settings(folder / SETTINGS)
    path = folder / WEIGHTS
    if not path.exists():
        raise BrokenFile(f"{path} is not there")
    stored = with_prefix(header(path)[0], ARCHITECTURES[kind].prefix)
    layers = {name: layer for name, layer in linears(model) if name in homes}
    known = {key: module for name in layers for module in homes[name][0] for key in keys(module)}
    whole, head = wanted(model, said), tied_head(model) and PREFIX + tied_head(model)
    wrong = [f"  unknown: {name}" for key, name in stored.items() if not (key in known or key in whole or key == head)] + \
        [f"  missing: {other}" for key in stored if key in known for other in keys(known[key]) if other not in stored] + \
        [f"  missing: {key}" for key in whole if key not in stored]
    if wrong or not stored:
        raise BrokenFile(f"the adapters in {path} are not those of a {kind} of this shape:\n" +
                         ("\n".join(wrong) or "  there are none"))
    check_base(path, model)
    found = {}
    for name, layer in layers.items():
        modules, rows = homes[name]
        parts = rows.split(np.empty((layer.weight.shape[0], 0)), model.config)
        pairs = [None if keys(m)[0] not in stored else [read_tensor(path, stored[key]) for key in keys(m)] for m in modules]
        for module, pair, part in zip(modules, pairs, parts):
            if pair is not None:
                check_shapes(path, module, pair, rank_of(module), layer.weight.shape[1], len(part))
        if any(pair is not None for pair in pairs):
            A, parts, scale = joined(pairs, [scale_of(m) for m in modules], [len(part) for part in parts])
            found[name] = LoRA(A, rows.join(parts, model.config), scale * len(A), like=layer.weight)
    values, own = read_whole(path, model, stored, whole), dict(model.named_parameters())
    check_tied(path, model, stored, values)
    model.requires_grad_(False)
    for name, adapter in found.items():
        layers[name].adapter = adapter
    for name, value in values.items():
        own[name].data[...] = beside(value, own[name].data)
        own[name].requires_grad = True
    return model


def joined(pairs, scales, sizes):
    """Adapters (A, B), or None, of layers that lie one under the other here, as one: A, its B in their parts, the scale."""
    there = [i for i, pair in enumerate(pairs) if pair is not None]
    scale, first = scales[there[0]], pairs[there[0]][0]
    pairs = [pair and (pair[0], pair[1] * (s / scale)) for pair, s in zip(pairs, scales)]
    if len(there) == len(pairs) and all(np.array_equal(A, first) for A, _ in pairs):
        return first, [B for _, B in pairs], scale
    A = np.concatenate([pairs[i][0] for i in there])     # (Σ r, in)
    parts, start = [np.zeros((n, len(A)), A.dtype) for n in sizes], 0
    for i in there:
        stop = start + len(pairs[i][0])
        parts[i][:, start:stop] = pairs[i][1]
        start = stop
    return A, parts, scale


# ---- names and settings ----------------------------------------------------------------------------------------------

def homes_of(model):
    """(the architecture's name, {our name of a layer: (their names of it, how its outputs are split among them)}). A layer's
    outputs are arranged as its bias is."""
    if not isinstance(model, (GPT, BERT)):
        raise TypeError(f"a GPT or a BERT has adapters in PEFT's layout, not a {type(model).__name__}: of a reward model "
                        "give the body")
    kind = architecture_of(model)
    places = places_of(model)
    rows = {place.ours: place.how for place in places}
    return kind, {place.ours.removesuffix(".weight"): (
        [name.removesuffix(".weight") for name in place.theirs], rows.get(place.ours.removesuffix("weight") + "bias", SAME))
        for place in places if place.ours.endswith(".weight")}


def keys(module):
    """The names of A and of B."""
    return [f"{PREFIX}{module}.lora_{x}.weight" for x in "AB"]


def with_prefix(names, prefix):
    """{name: name in the file}. The adapters of a model without its head lack the body's prefix: here they get it."""
    if any(name.startswith(PREFIX + prefix) for name in names):
        return {in_memory(name): name for name in names}
    return {PREFIX + prefix + name.removeprefix(PREFIX): name for name in names}


def read_settings(path):
    """(scale of a layer, rank of a layer, ends of names of modules that were trained whole) by
    adapter_config.json; the first two are functions of the layer's name."""
    settings = read_json(path)
    if settings.get("peft_type") != "LORA":
        raise BrokenFile(f"{path}: adapters of the type {settings.get('peft_type')!r} are not built here; \"LORA\" is")
    strange = [(key, settings[key]) for key, plain in PLAIN.items() if settings.get(key) and settings[key] != plain]
    if settings.get("init_lora_weights", True) not in STARTS:
        strange.append(("init_lora_weights", settings["init_lora_weights"]))
    if strange:
        raise BrokenFile(f"{path}: " + ", ".join(f"{key}={value!r}" for key, value in strange) + " is not built here")
    for key in ("r", "lora_alpha"):
        if not isinstance(settings.get(key), (int, float)) or settings[key] <= 0:
            raise BrokenFile(f"{path}: {key!r} is a number above 0, not {settings.get(key)!r}")

    def own(key, pattern, module):
        """The setting, unless a pattern, which the end of the layer's name fits, says another."""
        for name, value in (settings.get(pattern) or {}).items():
            if re.fullmatch(rf"(.*\.)?({name})", module):
                return value
        return settings[key]

    def rank_of(module):
        return own("r", "rank_pattern", module)

    def scale_of(module):
        r = rank_of(module)
        return own("lora_alpha", "alpha_pattern", module) / (sqrt(r) if settings.get("use_rslora") else r)

    whole = [in_memory(m) for m in settings.get("modules_to_save") or []]
    return scale_of, rank_of, whole


# ---- what must fit ---------------------------------------------------------------------------------------------------

def check_shapes(path, module, pair, rank, n_in, n_out):
    for name, x, shape in zip(keys(module), pair, ((rank, n_in), (n_out, rank))):
        if x.shape != shape:
            raise BrokenFile(f"{path}: the tensor {name} has shape {x.shape}, and of rank {rank} by {SETTINGS}, for this "
                             f"model's layer, it has {shape}")


def checksums(model):
    """{"dtype": …, our name of an adapted layer: CRC of its weight without the adapter}."""
    sums = {"dtype": str(model.wte.weight.dtype)}
    for name, layer in adapted(model):
        weight = layer.weight.data if layer.adapter.original is None else layer.adapter.original
        sums[name] = zlib.crc32(np.ascontiguousarray(to_host(weight)))
    return sums


def check_base(path, model):
    """Refuse adapters that were trained here on other weights. Of PEFT's, and in another type, nobody can tell."""
    from safetensors import safe_open
    with safe_open(path, framework="numpy") as file:
        sums = json.loads((file.metadata() or {}).get("base", "{}"))
    if sums.pop("dtype", None) != str(model.wte.weight.dtype):
        return
    for name, layer in linears(model):
        if name in sums and sums[name] != zlib.crc32(np.ascontiguousarray(layer.weight.numpy())):
            raise BrokenFile(f"{path}: these adapters were trained on another base: the model's {name}.weight is not the "
                             "one they belong to")
