"""Short texts that come with the package, so that every example runs without a network; and how any text is cut."""
import re
from importlib.resources import files

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


def paragraphs(text):
    """What blank lines separate; the lines, where no line is blank."""
    text = text.replace("\r\n", "\n")
    parts = re.split(r"\n\s*\n", text) if re.search(r"\n\s*\n", text.strip()) else text.splitlines()
    return [part.strip() for part in parts if part.strip()]


def split(documents, *, every=10):
    """(to learn from, held out): every tenth is kept apart to measure on."""
    if len(documents) < every:
        raise ValueError(f"the text has {len(documents)} paragraphs, and one in {every} is kept apart to measure on: give "
                         f"at least {every}, with blank lines between them")
    return [d for i, d in enumerate(documents, 1) if i % every], documents[every - 1::every]
