"""The glossary is in order, in both languages, and leads to pages and files that are there."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
ENTRIES = {title: body for title, body in re.findall(r"^### (.+)\n\n((?:(?!#).*\n?)+)", TEXT, re.M)}

every_entry = pytest.mark.parametrize("term", ENTRIES)


def sorted_as(term):
    """Letters, digits and spaces, small: as people look things up."""
    return re.sub(r"[^a-z0-9 ]", "", re.sub("[–-]", " ", term.lower()))


def test_every_term_once_and_in_order():
    terms = re.findall("^### (.+)$", TEXT, re.M)
    assert terms == sorted(terms, key=sorted_as) and len({*terms}) == len(terms) == len(ENTRIES) >= 90


def test_every_letter_has_its_heading():
    letter = None
    for level, title in re.findall("^(##|###) (.+)$", TEXT, re.M):
        letter = title if level == "##" else letter
        assert sorted_as(title)[0].upper() == letter


@every_entry
def test_english_korean_and_where(term):
    english, korean, where = ENTRIES[term].strip().split("\n\n")
    assert english.endswith(".") and not re.search("[가-힣]", english)
    name, sentence = re.fullmatch(r"\*\*(.+?)\.\*\* (.+)", korean, re.S).groups()
    assert re.search("[가-힣]", name) or name.replace("-", "").isascii()             # GPT is GPT in Korean, too
    assert sentence.endswith("다.") and len(re.findall("[가-힣]", sentence)) >= 10
    *links, source = where.split(" · ")
    assert links and all((ROOT / "docs" / re.fullmatch(r"\[.+\]\((.+\.md)\)", link)[1]).is_file() for link in links)
    assert (ROOT / "tinygrad_lm" / source.strip("`")).is_file()
