"""Modules that train whole beside the adapters, an embedding say, in PEFT's layout: its `modules_to_save`.

PEFT keeps a copy of each, under the module's own name, in the file of the adapters. What is one here may be several there:
the queries, keys and values of LLaMA and BERT, and an embedding that is the head, too.
"""
import numpy as np

from .architectures import ARCHITECTURES
from .pretrained import architecture_of
from .tensors import BrokenFile, read_tensor

PREFIX = "base_model.model."


def module_of(name):
    """The module whose tensor it is: all but the last word."""
    return name.rpartition(".")[0]


def trained_whole(model):
    """The modules, by our names, of which more trains than an adapter."""
    return {module_of(name) for name, p in model.named_parameters() if p.requires_grad and ".adapter." not in name}


def tensors_of(model, modules):
    """{name in the file: array} of these modules (ours), every parameter of each. An embedding that is the head is there
    twice: PEFT has a copy of either, and they are one only if the copies are equal."""
    own, found = dict(model.named_parameters()), {}
    for place in places_of(model):
        if module_of(place.ours) in modules and place.ours in own:
            found |= dict(zip(place.theirs, place.how.split(own[place.ours].numpy(), model.config)))
    if "wte" in modules and tied_head(model):
        found[tied_head(model)] = model.wte.weight.numpy()
    return {PREFIX + name: np.ascontiguousarray(x) for name, x in found.items()}


def places_of(model):
    """The architecture's places, by the names of modules: GPT-NeoX's head is embed_out in files and in transformers 4, and
    lm_head in memory since transformers 5."""
    return [place._replace(theirs=tuple(map(in_memory, place.theirs)))
            for place in ARCHITECTURES[architecture_of(model)].places(model)]


def in_memory(name):
    return name.replace("embed_out", "lm_head")


def tied_head(model):
    """Their name of the head that is the token embedding once more, or None. (BERT's is refused.)"""
    return next((p.theirs[0] for p in places_of(model) if p.ours == "head.weight" and model.config.tied), None)


def refuse_what_is_not_kept(model, modules):
    """BERT's head is its embedding, and has a bias besides that belongs to no module: PEFT has no name for it."""
    lost = modules & {"head", "wte"} if architecture_of(model) == "bert" and model.head is not None else set()
    if lost:
        raise ValueError(f"not only the adapters train, but {' and '.join(sorted(lost))}, which PEFT cannot keep of a BERT "
                         "with a head: keep the whole model in a checkpoint, or freeze these")


def wanted(model, said):
    """{name in the file: (place, which of the place's tensors)} of all that `said`, ends of their modules' names, means."""
    own = dict(model.named_parameters())
    return {PREFIX + name: (place, i) for place in places_of(model) if place.ours in own
            for i, name in enumerate(place.theirs) if any(module_of(name).endswith(end) for end in said)}


def read_whole(path, model, stored, places):
    """{our parameter's name: array} from the file: `stored` {name: name in the file}, `places` as `wanted` gives them."""
    own, values = dict(model.named_parameters()), {}
    for key, (place, i) in places.items():
        x, now = read_tensor(path, stored[key]), values.get(place.ours, own[place.ours].data)
        parts = place.how.split(now, model.config)
        if x.shape != parts[i].shape:
            raise BrokenFile(f"{path}: the tensor {key} has shape {x.shape}, and of this model it has {parts[i].shape}")
        values[place.ours] = place.how.join([*parts[:i], x, *parts[i + 1:]], model.config)
    return values


def check_tied(path, model, stored, values):
    """Refuse an embedding that was trained apart from a head that is the same table here, or the other way round: that is a
    model which this one cannot be. (What `ensure_weight_tying` promises, PEFT 0.21 does not keep for every architecture.)"""
    head = tied_head(model)
    if head is None:
        return
    table, top = values.get("wte.weight"), stored.get(PREFIX + head)
    if (table is None) is not (top is None) or table is not None and not np.array_equal(read_tensor(path, top), table):
        raise BrokenFile(f"{path}: the token embedding and {module_of(head)} were not trained as one, and are one in this "
                         "model: that needs a base whose config says tie_word_embeddings: false")
