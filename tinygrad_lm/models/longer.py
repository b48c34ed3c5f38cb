"""A model with rotary positions, made to read longer texts than it was trained on (Chen et al. 2023 [PI])."""
import copy
from dataclasses import replace

from .transformer import GPT


def extended(model, block_size, kind):
    """The same GPT for texts of up to `block_size` tokens; the parameters are shared, not copied.

    kind says how positions are stretched (rotary.frequencies), by block_size / the model's own: "linear", "ntk", or None for
    not at all, so that the model meets distances it has never seen. "ntk" may do without further training, "linear" needs
    a little: `train_step` with long texts, on copy.deepcopy of the result where the old model is to stay as it is.
    """
    config = model.config
    if not isinstance(model, GPT) or config.position != "rotary":
        raise ValueError(f"only a GPT with rotary positions can be extended; this is a {type(model).__name__} with "
                         f"position={config.position!r}, which has learned its {config.block_size} positions one by one")
    if config.rope_scaling is not None:
        raise ValueError(f"this model is stretched already, by {config.rope_scaling}: extend the one it was made from")
    if kind not in ("linear", "ntk", None):
        raise ValueError(f'positions are stretched "linear", "ntk" or not at all (None), not {kind!r}')
    if block_size <= config.block_size:
        raise ValueError(f"block_size={block_size} is no longer than the model's {config.block_size}")
    scaling = None if kind is None else {"kind": kind, "factor": block_size / config.block_size}
    longer = copy.copy(model)
    longer.config = replace(config, block_size=block_size, rope_scaling=scaling)
    return longer
