"""Exercises: functions of this library to write oneself, each with the properties that a right answer has; and tests to
write, each with the bug that it must notice."""
from importlib import import_module

ORDER = ("product", "unbroadcast", "linear_gradient", "softmax", "softmax_gradient", "cross_entropy", "layer_norm",
         "backpropagate", "attention", "rope", "next_tokens", "ngram", "bpe_merge", "sampling", "kv_cache", "adamw",
         "sft_mask", "lora_merge", "reward_loss", "gae", "ppo_clip", "dpo_loss", "kl_estimators", "int8", "softmax_kernel")


def names():
    """Every exercise, in the order of the road; those that are tests come last, as test_ and the name of the bug."""
    from ..museum import NAMES
    return [*ORDER, *(f"test_{bug}" for bug in NAMES)]


def find(word):
    """(number, name) of an exercise, from either: "4", "04", "softmax", or the name of a file, "04_softmax.py"."""
    all_names = names()
    first, _, rest = word.removesuffix(".py").partition("_")
    if first.isdigit() and 1 <= int(first) <= len(all_names):
        number = int(first)
        if not rest or rest == all_names[number - 1]:
            return number, all_names[number - 1]
    if word in all_names:
        return all_names.index(word) + 1, word
    raise ValueError(f"there is no exercise {word!r}: 1 to {len(all_names)}, or a name (tinygrad-lm exercise list)")


def is_test(name):
    """Is it a test that has to be written, for a bug of the museum?"""
    return name.startswith("test_")


def exercise(name):
    """The module of an exercise whose answer is a function, or a kernel."""
    return import_module(f".{name}", __name__)
