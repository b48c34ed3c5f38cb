"""tokenizer.json, the file in which models publish their tokenizer: read, written, and made for a tokenizer trained here.

Every kind of part that byte-level BPE (GPT-2, GPT-NeoX, LLaMA 3, Qwen, SmolLM) and WordPiece (BERT) use is a line of one of
the tables below; a file that asks for another is refused by name.
"""
import json
from functools import partial
from pathlib import Path

from ..checkpoint import replace
from . import split, unicode
from .bpe import BPE, count_words, from_visible, to_visible, train
from .char import CharTokenizer
from .letters import LetterTokenizer
from .special import AddedToken
from .tokenizer import Tokenizer
from .wordpiece import WordPiece, basic_normalize, basic_words

END = "<|endoftext|>"


class TokenizerError(ValueError):
    """A file that is not a tokenizer, or not of a kind that is known here; the message names file and reason."""


# ---- files ----------------------------------------------------------------------------------------------------------

def load(path):
    """The tokenizer of a tokenizer.json, BERT's vocab.txt, or a folder with one of these or vocab.json and merges.txt."""
    path = Path(path)
    if path.is_dir():
        names = [n for n in ("tokenizer.json", "vocab.json", "vocab.txt") if (path / n).exists()]
        if not names:
            raise TokenizerError(f"the folder {path} has no tokenizer.json, nor vocab.json and merges.txt, nor vocab.txt")
        return load_gpt2(path / "vocab.json", path / "merges.txt") if names[0] == "vocab.json" else load(path / names[0])
    if path.suffix == ".txt":
        return load_wordpiece(path)
    return _built(_json(path), path)


def load_gpt2(vocab, merges):
    """GPT-2's tokenizer from its two files: {token: id} as JSON, and merges, two tokens a line."""
    ids, lines = _json(vocab), _text(merges).split("\n")
    if not isinstance(ids, dict) or not all(isinstance(i, int) for i in ids.values()):
        raise TokenizerError(f"{vocab} is not a vocabulary: an object of token and id is needed")
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    wrong = next((p for p in pairs if len(p) != 2), None)
    if wrong:
        raise TokenizerError(f"{merges} is not a list of merges: it has the line {' '.join(wrong)!r}, and two tokens a line "
                             "are needed")
    return _built(describe_bpe(ids, pairs, split.GPT2, [END] if END in ids else []), f"{vocab} with {merges}")


def load_wordpiece(path, *, lowercase=True):
    """BERT's tokenizer from its vocab.txt, a token a line; `lowercase=False` for the cased models."""
    lines = _text(path).removesuffix("\n").split("\n")
    ids = {line.rstrip(): i for i, line in enumerate(lines)}
    missing = [t for t in ("[UNK]", "[CLS]", "[SEP]") if t not in ids]
    if missing:
        raise TokenizerError(f"{path} is not a vocabulary of BERT: it has no {' or '.join(missing)}")
    cls, sep, sep_b = ({"SpecialToken": {"id": t, "type_id": n}} for t, n in (("[CLS]", 0), ("[SEP]", 0), ("[SEP]", 1)))
    first, second = ({"Sequence": {"id": name, "type_id": n}} for n, name in enumerate("AB"))
    spec = {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [_added(t, ids[t]) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t in ids],
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                           "lowercase": lowercase},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing", "single": [cls, first, sep],
                               "pair": [cls, first, sep, second, sep_b],
                               "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")}},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": ids}}
    return _built(spec, path)


def save(path, tokenizer):
    """Write a tokenizer.json that Hugging Face's tokenizers reads too, the whole file or none."""
    path = Path(path)
    try:
        replace(path, json.dumps(tokenizer.spec, ensure_ascii=False, indent=1).encode())
    except OSError as error:
        raise TokenizerError(f"cannot write {path}: {error.strerror}") from error


def _text(path):
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        raise TokenizerError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not a tokenizer: byte {error.start} is not UTF-8") from None


def _json(path):
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise TokenizerError(f"{path} is not a tokenizer: it is no JSON ({error})") from None


def _built(spec, path):
    try:
        return build(spec)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        reason = f"it says nothing about {error}" if isinstance(error, KeyError) else error
        raise TokenizerError(f"{path} is not a tokenizer of a kind that is known here: {reason}") from None


def from_dict(saved):
    """The tokenizer that a checkpoint remembers: what `to_dict` of a Tokenizer, CharTokenizer or LetterTokenizer gave."""
    kinds = {"char": CharTokenizer, "letters": LetterTokenizer}
    return kinds[saved["kind"]].from_dict(saved) if saved["kind"] in kinds else build(saved["spec"])


def with_added(tokenizer, tokens):
    """The tokenizer, with those special tokens (str) that it lacks behind all of its own."""
    lacking = [t for t in dict.fromkeys(tokens) if t not in {known.text for known in tokenizer.added.values()}]
    if isinstance(tokenizer, CharTokenizer):
        return type(tokenizer)(tokenizer.chars, [*(t.text for t in tokenizer.added.values()), *lacking])
    more = [_added(t, i) for i, t in enumerate(lacking, tokenizer.vocab_size)]
    return build(tokenizer.spec | {"added_tokens": [*(tokenizer.spec.get("added_tokens") or []), *more]})


# ---- training -------------------------------------------------------------------------------------------------------

def train_bpe(texts, vocab_size, *, pattern=split.GPT2, special=(END,), min_count=2):
    """A byte-level BPE tokenizer learned from texts (str, or several).

    `vocab_size` counts the special tokens, the 256 bytes and the merges. The vocabulary stays smaller where no pair within
    the words that `pattern` cuts occurs `min_count` times any more.
    """
    words = count_words([texts] if isinstance(texts, str) else texts, partial(split.pieces, pattern))
    tokens, merges = train(words, vocab_size, special=special, min_count=min_count)
    visible = [t if isinstance(t, str) else to_visible(t) for t in tokens]
    ids = {token: i for i, token in enumerate(visible)}
    return build(describe_bpe(ids, [[visible[a], visible[b]] for a, b in merges], pattern, special))


def describe_bpe(ids, merges, pattern, special):
    """The content of a tokenizer.json: `ids` {visible token: id}, `merges` pairs of visible tokens, `special` among them."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": pattern == split.GPT2}
    cut = byte_level if pattern == split.GPT2 else {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}, byte_level]}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [_added(t, ids[t]) for t in special],
            "normalizer": None, "pre_tokenizer": cut, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": ids, "merges": merges}}


def _added(token, i):
    return {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True}


# ---- parts ----------------------------------------------------------------------------------------------------------

def build(spec):
    """The Tokenizer that a tokenizer.json's content describes; ValueError and KeyError say what is missing or unknown."""
    if not isinstance(spec, dict) or not isinstance(spec.get("model"), dict):
        raise ValueError("it is JSON, but describes no 'model' (vocab.json is read with merges.txt: give their folder)")
    read = MODELS[kind(spec["model"], MODELS, "model")]
    if not isinstance(spec["model"].get("vocab"), dict):
        raise ValueError("its model has no vocabulary")
    model, added = read(spec), [_read_added(t) for t in spec.get("added_tokens") or []]
    return Tokenizer(spec, model, normalize=normalizer(spec.get("normalizer")), cut=cutter(spec.get("pre_tokenizer")),
                     join=_join_bytes if isinstance(model, BPE) else _join_pieces(model, spec.get("decoder")),
                     added=added, frame=frame(spec.get("post_processor")))


def kind(part, known, what):
    """The type of a part, if it is one of those known; models of old files have none, and only BPE's have merges."""
    found = part.get("type", "BPE" if "merges" in part else "WordPiece" if what == "model" else None)
    if found not in known:
        raise ValueError(f"its {what} is {found!r}, and what can be read is {', '.join(known)}")
    return found


def _read_bpe(spec):
    part = spec["model"]
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if part.get(option):
            raise ValueError(f"its model has {option} = {part[option]!r}: only byte-level BPE can be read")
    if "ByteLevel" not in _kinds(spec.get("pre_tokenizer")):
        raise ValueError(f"its BPE is not byte-level: its pre-tokenizer is {_kinds(spec.get('pre_tokenizer')) or None}")
    ids = part["vocab"]
    pairs = [tuple(m.split(" ") if isinstance(m, str) else m) for m in part["merges"]]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2:
            raise ValueError(f"its merge {number}, {' '.join(pair)!r}, is not of two tokens")
        missing = [t for t in (*pair, "".join(pair)) if t not in ids]
        if missing:
            raise ValueError(f"its merge {number}, {' '.join(pair)!r}, needs {missing[0]!r}, which the vocabulary lacks")
    return BPE({i: from_visible(t) for t, i in ids.items()}, [(ids[a], ids[b]) for a, b in pairs],
               whole_words=part.get("ignore_merges", False), unknown=ids.get(part.get("unk_token")),
               fuse=part.get("fuse_unk", False))


def _read_wordpiece(spec):
    part = spec["model"]
    if part["unk_token"] not in part["vocab"]:
        raise ValueError(f"its vocabulary lacks the token for unknown words, {part['unk_token']!r}")
    return WordPiece({i: t for t, i in part["vocab"].items()}, unknown=part["unk_token"],
                     prefix=part["continuing_subword_prefix"], longest=part["max_input_chars_per_word"])


MODELS = {"BPE": _read_bpe, "WordPiece": _read_wordpiece}


def _read_added(token):
    if token.get("single_word"):
        raise ValueError(f"its added token {token['content']!r} is to match whole words only, which is not known here")
    return AddedToken(token["id"], token["content"], token["special"], token["normalized"], token["lstrip"], token["rstrip"])


def chained(functions):
    """One function that does one after the other."""
    def chain(x):
        for f in functions:
            x = f(x)
        return x
    return chain


def normalizer(part):
    """str -> str"""
    if part is None:
        return str
    return NORMALIZERS[kind(part, NORMALIZERS, "normalizer")]({k: v for k, v in part.items() if k != "type"})


NORMALIZERS = {
    "NFC": lambda part: partial(unicode.normalize, "NFC"),
    "NFD": lambda part: partial(unicode.normalize, "NFD"),
    "Lowercase": lambda part: unicode.lower,
    "BertNormalizer": lambda part: partial(basic_normalize, **part),
    "Sequence": lambda part: chained([normalizer(p) for p in part["normalizers"]])}


def cutter(part):
    """str -> list of words"""
    if part is None:
        return lambda text: [text]
    return CUTTERS[kind(part, CUTTERS, "pre-tokenizer")](part)


def _byte_level(part):
    def cut(text):
        if part["add_prefix_space"] and not text.startswith(" "):
            text = " " + text
        return split.pieces(split.GPT2, text) if part.get("use_regex", True) else [text]
    return cut


def _split(part):
    (how, pattern), = part["pattern"].items()
    behaviours = {("Isolated", False): split.pieces, ("Isolated", True): split.pieces,
                  ("Removed", False): split.between, ("Removed", True): split.matches}
    way = part["behavior"], part["invert"]
    if way not in behaviours:
        raise ValueError(f"its pre-tokenizer splits in the way {part['behavior']!r}: only Isolated and Removed are known")
    pattern = pattern if how == "Regex" else "".join(f"\\{c}" if c in r"\.|()[]{}*+?^$" else c for c in pattern)
    split.compile_pattern(pattern)                           # now, so that a pattern that is not known is said on loading
    return partial(behaviours[way], pattern)


def _sequence(part):
    cuts = [cutter(p) for p in part["pretokenizers"]]
    if "ByteLevel" in [p["type"] for p in part["pretokenizers"]][:-1]:
        raise ValueError("its pre-tokenizer cuts again after ByteLevel, when the text has become bytes")
    return chained([lambda text: [text], *(partial(_each, cut) for cut in cuts)])


def _each(cut, words):
    return [piece for word in words for piece in cut(word)]


CUTTERS = {"ByteLevel": _byte_level, "Split": _split, "Sequence": _sequence,
           "Digits": lambda part: partial(split.digits, apart=part["individual_digits"]),
           "BertPreTokenizer": lambda part: basic_words}


def _kinds(part):
    """The types of a part and of the parts in it."""
    parts = [] if part is None else part.get("pretokenizers", [part])
    return [p.get("type") for p in parts]


def frame(part):
    """(ids before a sequence, ids after it), as the post-processor adds them to a single text."""
    if part is None or kind(part, POSTPROCESSORS, "post-processor") == "ByteLevel":
        return (), ()
    if part["type"] == "Sequence":
        frames = [frame(p) for p in part["processors"]]
        return sum((b for b, _ in reversed(frames)), ()), sum((a for _, a in frames), ())
    if part["type"] != "TemplateProcessing":
        return (part["cls"][1],), (part["sep"][1],)
    known, around = part["special_tokens"], ([], [])
    inside = [next(iter(p)) for p in part["single"]].index("Sequence")
    for place, p in enumerate(part["single"]):
        if place != inside:
            around[place > inside].extend(known[p["SpecialToken"]["id"]]["ids"])
    return tuple(around[0]), tuple(around[1])


POSTPROCESSORS = ("ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "Sequence")


def _join_bytes(tokens):
    return b"".join(t.encode() if isinstance(t, str) else t for t in tokens).decode(errors="replace")


def _join_pieces(model, decoder):
    if decoder is None:
        return " ".join
    kind(decoder, ("WordPiece",), "decoder")
    return partial(model.join, prefix=decoder["prefix"], cleanup=decoder["cleanup"])
