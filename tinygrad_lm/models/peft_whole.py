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
    """{name in the file: array} of these modules (ours), every parameter of each. Of an embedding that is the head, once:
    PEFT is told to keep them one."""
    own, found = dict(model.named_parameters()), {}
    for place in places_of(model):
        if module_of(place.ours) in modules and place.ours in own:
            found |= dict(zip(place.theirs, place.how.split(own[place.ours].numpy(), model.config)))
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


def wanted(model, said, prefix):
    """{name in the file: (place, which of the place's tensors)} of all that `said`, ends of their modules' names, means."""
    def meant(name):
        return any(module_of(name).removeprefix(prefix).endswith(end.removeprefix(prefix)) for end in said)
    own = dict(model.named_parameters())
    return {PREFIX + name: (place, i) for place in places_of(model) if place.ours in own
            for i, name in enumerate(place.theirs) if meant(name)}


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


def check_tied(path, model, stored, values, said, tying):
    """Refuse an embedding that was trained apart from a head that is the same table here, or the other way round: that is a
    model which this one cannot be. said, tying: `modules_to_save` and `ensure_weight_tying` of the settings."""
    head = tied_head(model)
    if head is None:
        return
    top = PREFIX + head in stored
    listed = any(module_of(head).endswith(end) for end in said)
    table = "wte.weight" in values
    apart = top and not (table and np.array_equal(read_tensor(path, stored[PREFIX + head]), values["wte.weight"]))
    if apart or table and not (listed or tying) or listed and not table:
        raise BrokenFile(f"{path}: the token embedding and {module_of(head)} were not trained as one, and are one in this "
                         "model: that needs a base whose config says tie_word_embeddings: false")
