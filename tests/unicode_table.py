"""Writes tinygrad_lm/data/unicode.txt: how Hugging Face's tokenizers sort all 1.1 million characters, asked one by one.

    python -m tests.unicode_table         # Python 3.11; needs tokenizers, and unicodedata2==16.0.0

Their patterns know Unicode 16.0; what cleans a text for BERT knows an older one, which is why it has classes of its own.
"""
from pathlib import Path

FILE = Path(__file__).parents[1] / "tinygrad_lm" / "data" / "unicode.txt"
EVERY = [chr(c) for c in range(0x110000) if not 0xd800 <= c < 0xe000]
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
PARTS = "q"                                      # stands between the characters, and is asked about by nobody
TEXT = PARTS.join(c for c in EVERY if c != PARTS)
ASKED = [c for c in EVERY if c != PARTS]


def matched(name):
    """The characters that a class of the crate's patterns matches."""
    from tokenizers import Regex, pre_tokenizers
    split = pre_tokenizers.Split(Regex(r"\s" if name == "space" else rf"\p{{{name}}}"), "isolated")
    text = "".join(("0" if name == "Ll" else PARTS) + c for c in EVERY)
    return {piece for piece, _ in split.pre_tokenize_str(text + text[0]) if len(piece) == 1} - {text[0]}


def split_off(pre_tokenizer):
    """The characters that a pre-tokenizer makes a piece of their own."""
    return {piece for piece, _ in pre_tokenizer.pre_tokenize_str(TEXT) if len(piece) == 1 and piece != PARTS}


def normalized(normalizer):
    """{character: what becomes of it} for all but the Latin letters."""
    becomes = normalizer.normalize_str(TEXT).split(PARTS)
    letters = {c for c in ASKED if c.isascii() and c.isalpha()}
    if len(becomes) == len(ASKED) + 1:           # Q became q and looked like one more gap
        becomes[ASKED.index("Q"):ASKED.index("Q") + 2] = ["q"]
    assert len(becomes) == len(ASKED)
    return {c: b for c, b in zip(ASKED, becomes) if c not in letters}


def bert(**options):
    from tokenizers import normalizers
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalized(normalizers.BertNormalizer(**off | options))


def classes():
    """{class: set of characters}"""
    from tokenizers import normalizers, pre_tokenizers
    found = {name: matched(name) for name in [*CATEGORIES, "space"]}
    found["digit-digits"] = split_off(pre_tokenizers.Digits(individual_digits=True))
    found["bert-punctuation"] = split_off(pre_tokenizers.BertPreTokenizer())
    found["bert-control"] = {c for c, to in bert(clean_text=True).items() if to == ""}
    decomposed, plain = normalized(normalizers.NFD()), bert(strip_accents=True)
    found["bert-mark"] = {c for c, to in plain.items() if to == "" and decomposed[c] == c}
    found["bert-cjk"] = {c for c, to in bert(handle_chinese_chars=True).items() if to == f" {c} "}
    return found


def is_old(character):
    """Had it been given its lower case by Unicode 14, which Python 3.11 knows?"""
    import unicodedata
    assert unicodedata.unidata_version == "14.0.0", "run this with Python 3.11, whose Unicode is the oldest"
    return character.lower() != character


def unknown_to_the_normaliser():
    """Characters that Unicode 16.0 decomposes, composes or reorders, and the crate does not."""
    import unicodedata2
    from tokenizers import normalizers
    nfd = normalizers.NFD().normalize_str
    unknown = {c for c, to in normalized(normalizers.NFD()).items() if to != unicodedata2.normalize("NFD", c)}
    for c in EVERY:
        if unicodedata2.combining(c):
            marks = f"a\u0345{c}\u0334"
            if nfd(marks) != unicodedata2.normalize("NFD", marks):
                unknown.add(c)
    parts = {chr(int(p, 16)) for c in unknown for p in unicodedata2.decomposition(c).split()}
    return unknown | {p for p in parts if ord(p) > 0x10000}


def as_ranges(characters):
    found = []
    for c in sorted(map(ord, characters)):
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return " ".join(f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in found)


def main():
    found = classes() | {"normal-unknown": unknown_to_the_normaliser()}
    newer = {c: to for c, to in bert(lowercase=True).items() if to != c and not is_old(c)}
    lines = [f"{name} {as_ranges(characters)}" for name, characters in found.items()]
    lines.append("lower " + " ".join(f"{ord(c):x}>{ord(to):x}" for c, to in sorted(newer.items())))
    FILE.write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
