"""Texts to learn from: the stories that come with the package, or a file of yours, as paragraphs."""
import re
from importlib.resources import files
from pathlib import Path

LANGUAGES = ("en", "ko")


def stories(language):
    """Short stories written for this project, in English ("en") or Korean ("ko"), as one text."""
    check_language(language)
    return (files("tinygrad_lm") / "data" / f"stories_{language}.txt").read_text(encoding="utf-8")


def translations(language):
    """Sentences and what they could mean in `language`: [(source, candidates)], the best translation first."""
    check_language(language)
    lines = (files("tinygrad_lm") / "data" / "translations.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return [(source, candidates) for to, source, *candidates in rows if to == language]


def check_language(language):
    if language not in LANGUAGES:
        raise ValueError(f"there are stories in {' and '.join(LANGUAGES)}, not in {language!r}: give a text file instead")


def read_text(path):
    """The text of a UTF-8 file; an error in one sentence where it cannot be read, says which byte is wrong, in which line,
    and what encoding the file probably has."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    try:
        text = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        encoding, line = probable_encoding(data), data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start} is {data[error.start]:#04x}, in line {line}), but "
                         f"probably {encoding}: convert it first, e.g. with iconv -f {encoding} -t UTF-8") from None
    if not text.strip():
        raise ValueError(f"{path} is empty: there is nothing to learn from")
    return text


def probable_encoding(data):
    """A guess at the encoding of bytes that are not UTF-8: UTF-16 by its mark, CP949 (Korean) if what is no ASCII then
    reads as Hangul, else Windows-1252 (Western European)."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "UTF-16"
    try:
        others = [c for c in data.decode("cp949") if not c.isascii()]
    except UnicodeDecodeError:
        return "WINDOWS-1252"
    return "CP949" if 2 * sum("가" <= c <= "힣" for c in others) > len(others) else "WINDOWS-1252"


def paragraphs(text):
    """What blank lines separate; the lines, where no line is blank."""
    parts = re.split(r"\n\s*\n", text) if re.search(r"\n\s*\n", text.strip()) else text.splitlines()
    return [part.strip() for part in parts if part.strip()]


def split(documents, *, every=10):
    """(to learn from, held out): every tenth is kept apart to measure on."""
    if len(documents) < every:
        raise ValueError(f"the text has {len(documents)} paragraphs, and one in {every} is kept apart to measure on: give "
                         f"at least {every}, with blank lines between them")
    return [d for i, d in enumerate(documents, 1) if i % every], documents[every - 1::every]
