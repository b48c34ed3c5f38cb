"""What the sizes of a model mean, as a table for people and as numbers for machines: which cards hold it, and why."""
import json
from dataclasses import asdict
from pathlib import Path

from . import size as s
from .architectures import ARCHITECTURES
from .known import BASES, KNOWN, Known, known
from .saved import load_model
from .tensors import BrokenFile, read_json

TOKENS_A_PARAMETER = 20                                  # about what spends a budget of arithmetic best [CHINCHILLA]


def read_shape(name):
    """(name, Known) of a published model, a checkpoint of ours or its folder, a config.json or a folder with one."""
    path = Path(name)
    if (path / "config.json").exists():
        path = path / "config.json"
    if path.suffix == ".json" and path.exists():
        return str(path), from_settings(path)
    if path.is_dir() or path.suffix == ".safetensors":
        return str(path), from_checkpoint(path)
    return known(name)


def from_settings(path):
    """The shape that a config.json of Hugging Face's describes."""
    settings = read_json(path)
    kind = settings.get("model_type")
    if kind not in ARCHITECTURES:
        raise BrokenFile(f"{path}: the architecture {kind!r} is not known here; known are {', '.join(ARCHITECTURES)}")
    try:
        config = ARCHITECTURES[kind].config(settings)
    except KeyError as error:
        raise BrokenFile(f"{path} says nothing about {error}, which {kind} needs") from None
    body = kind == "bert" and not any("MaskedLM" in name for name in settings.get("architectures") or ())
    return Known(config, str(path), kind="bert body" if body else "bert" if kind == "bert" else "gpt")


def from_checkpoint(path):
    """The shape of a checkpoint that this library wrote."""
    return Known(load_model(path)[0].config, str(path))


def report(name, *, dtype="bfloat16", context=None, batch=1, train=False, lora=None, recompute="attention", tokens=None):
    """Everything that is said about a model, as JSON can hold it: bytes, FLOPs, and which cards hold it."""
    name, model = read_shape(name)
    config, kind = model.config, model.kind
    T = config.block_size if context is None else context
    for option, value in (("context", T), ("batch", batch), ("lora", lora)):
        if value is not None and value < 1:
            raise ValueError(f"{option} must be at least 1, not {value}")
    if T > config.block_size and config.position == "learned":
        raise ValueError(f"{name} has learned positions for {config.block_size} tokens, and none for a context of {T}")
    parts = s.parameters(config, kind)
    n = sum(parts.values())
    train = train or lora is not None
    if train:
        memory = s.training(config, T, batch, dtype, kind=kind, lora=lora, recompute=recompute)
    else:
        memory = {"weights": s.weights(config, dtype, kind), "KV cache": s.kv_cache(config, T, batch, dtype)}
    needed = sum(memory.values())
    D = tokens or model.tokens or TOKENS_A_PARAMETER * n
    flops = s.forward_flops(config, T, kind)
    trained = n if lora is None else s.n_lora(config, lora)
    found = {"model": name, "source": model.source, "config": asdict(config), "dtype": dtype, "context": T, "batch": batch,
             "train": train, "parameters": {"total": n, "trained": trained if train else 0, "by part": parts},
             "memory": memory | {"total": needed},
             "cards": {str(card): {"usable": s.usable(card), "holds": needed <= s.usable(card)} for card in s.CARDS},
             "other types": others(config, T, batch, kind, train, lora, recompute),
             "flops": {"forward a token": flops | {"total": sum(flops.values())},
                       "backward a token": 2 * sum(flops.values()), "training tokens": D, "tokens a parameter": D / n,
                       "6ND": 6 * n * D, "exact": 3 * sum(flops.values()) * D}}
    if train:
        found["activations"] = {"this library's engine, float32": s.engine_activations(config, T, batch, kind=kind)} | {
            f"{again} made again": s.activations(config, T, batch, s.number_size(dtype), kind=kind, recompute=again)
            for again in s.RECOMPUTED}
    return found


def others(config, T, batch, kind, train, lora, recompute):
    """{type: bytes in all}, of every type of weights that can do the same."""
    types = [t for t in s.DTYPES if not train or lora is not None or t in s.FLOATS]
    return {t: sum(s.training(config, T, batch, t, kind=kind, lora=lora, recompute=recompute).values()) if train else
            s.weights(config, t, kind) + s.kv_cache(config, T, batch, t) for t in types}


def verdict(found):
    """Two sentences: which cards hold it, and what fills them."""
    needed, (what, most) = found["memory"]["total"], largest(found["memory"])
    card = s.smallest_card(needed)
    held = "No card of the table holds it" if card is None else f"The smallest card that holds it has {card} GB"
    return f"{held}: it needs {gib(needed)}. The largest part: {what}, {gib(most)} ({most / needed:.0%})."


def largest(memory):
    return max(((what, n) for what, n in memory.items() if what != "total"), key=lambda pair: pair[1])


def gib(n):
    """Bytes as people read them: of a small model in MiB."""
    if n < s.GIB / 100:
        return f"{n / 2**20:,.2f} MiB"
    return f"{n / s.GIB:,.2f} GiB" if n < 100 * s.GIB else f"{n / s.GIB:,.0f} GiB"


def show(found, console=None):
    """Print a report for a reader who has never seen one."""
    from rich.console import Console
    console = console or Console()
    c, N = found["config"], found["parameters"]
    console.print(f"{found['model']}: {c['n_layer']} blocks, {c['n_embd']:,} channels, {c['n_head']} heads of "
                  f"{c['head_size']}, {c['vocab_size']:,} tokens in the vocabulary; from {found['source']}\n",
                  highlight=False, soft_wrap=True)
    console.print(table("parameters", "", "share", rows=[
        *((part, f"{n:,}", f"{n / N['total']:.1%}") for part, n in N["by part"].items()), ("all", f"{N['total']:,}", "")]))
    doing = "training" if found["train"] else "writing"
    console.print(table(f"memory while {doing}, {found['dtype']}, {found['batch']} × {found['context']:,} tokens", "",
                        rows=[(what, gib(n)) for what, n in found["memory"].items()]))
    if found["train"]:
        console.print(f"{N['trained']:,} parameters are trained\n", highlight=False, soft_wrap=True)
        console.print(table("activations, by what is computed twice", "", rows=[
            (what, gib(n)) for what, n in found["activations"].items()]))
    console.print(table("card", "usable", "holds it?", rows=[
        (f"{card} GB", gib(a["usable"]), "yes" if a["holds"] else "no") for card, a in found["cards"].items()]))
    console.print(verdict(found) + "\n", highlight=False, soft_wrap=True)
    console.print(table("the same with weights of", "needs", "smallest card", rows=[
        (t, gib(n), f"{s.smallest_card(n)} GB" if s.smallest_card(n) else "none") for t, n in found["other types"].items()]))
    console.print(arithmetic(found["flops"]), highlight=False, soft_wrap=True)


def arithmetic(f):
    """What training from nothing takes, in words."""
    return (f"Reading one token takes {power(f['forward a token']['total'])} floating-point operations, learning from it "
            f"three times as many.\nTraining on {large(f['training tokens'])} tokens, {f['tokens a parameter']:.3g} a "
            f"parameter (about {TOKENS_A_PARAMETER} spend a budget best), takes\n{power(f['exact'])} of them by counting "
            f"all products, {power(f['6ND'])} by 6 N D.")


def power(x):
    return f"{x:.3g}".replace("e+", "e")


def large(n):
    """A number as it is spoken: 2 trillion, 213 billion, 1.5 million."""
    for unit, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:,.0f}"


def table(*heads, rows):
    from rich.table import Table
    found = Table(*heads)
    for column in found.columns[1:]:
        column.justify = "right"
    for row in rows:
        found.add_row(*row)
    return found


def to_json(found):
    return json.dumps(found, indent=2, ensure_ascii=False)


def show_known(*, as_json=False):
    """Print every published model that is known here: parameters, weights in 16 bits, tokens that it learned from."""
    from rich.console import Console
    rows = {name: s.n_parameters(k.config, k.kind) for name, k in KNOWN.items()}
    if as_json:
        return print(to_json(rows | {name: rows[base] for name, base in BASES.items()}))
    console = Console()
    console.print(table("model", "parameters", "16-bit weights", "learned from", rows=[
        (name, f"{n:,}", gib(2 * n), f"{large(KNOWN[name].tokens)} tokens" if KNOWN[name].tokens else "")
        for name, n in sorted(rows.items(), key=lambda row: row[1])]))
    also = ", ".join(f"{name} is a {base}" for name, base in BASES.items())
    console.print(f"also: {also}", highlight=False, soft_wrap=True)
