"""Slips of the finger: seeded misspellings, so that a corrector can be scored on words whose spelling is known.

A slip happens on the keyboard, and so to letters, in Korean to those of a syllable: 사과 is ㅅㅏㄱㅗㅏ, and may become ㅅㅏㅏㄱㅗ.
"""
import re
from collections import defaultdict
from functools import cache, lru_cache

from .jamo import to_letters, to_syllables

# Each row of keys stands so much further to the right than the first: a key's neighbours are those that it touches.
KEYBOARDS = ({"qwertyuiop": 0, "asdfghjkl": 0.25, "zxcvbnm": 0.75},
             {"ㅂㅈㄷㄱㅅㅛㅕㅑㅐㅔ": 0, "ㅁㄴㅇㄹㅎㅗㅓㅏㅣ": 0.25, "ㅋㅌㅊㅍㅠㅜㅡ": 0.75})
SHIFTED = dict(zip("ㅃㅉㄸㄲㅆㅒㅖ", "ㅂㅈㄷㄱㅅㅐㅔ"))
KEYS = "".join(row for rows in KEYBOARDS for row in rows) + "".join(SHIFTED)
LETTER = re.compile("[a-zA-Zㄱ-ㅎㅏ-ㅣ]")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")                 # letters; an apostrophe may be among them


@cache
def neighbours(key):
    """The keys around this one, as one string; a shifted Korean key's first neighbour is itself without shift."""
    plain = SHIFTED.get(key, key.lower())
    for rows in KEYBOARDS:
        places = {k: (column + shift, row) for row, (keys, shift) in enumerate(rows.items())
                  for column, k in enumerate(keys)}
        if plain in places:
            x, y = places[plain]
            near = "".join(k for k, (x2, y2) in places.items() if k != plain and abs(x - x2) <= 1 and abs(y - y2) <= 1)
            return (plain if key in SHIFTED else "") + (near.upper() if key.isupper() else near)
    raise ValueError(f"{key!r} is no letter of a keyboard that is known here")


@lru_cache(maxsize=1 << 14)
def slips(letters):
    """{what one slip makes of the letters: its probability}. Four kinds are equally likely, at every letter alike: another
    key for it, a key too many behind it (half the time itself once more), the key left out, or swapped with the next."""
    out, places = defaultdict(float), [i for i, c in enumerate(letters) if LETTER.fullmatch(c)]
    for i in places:
        before, letter, after = letters[:i], letters[i], letters[i + 1:]
        near = neighbours(letter)
        for other in near:
            out[before + other + after] += 1 / len(near)
            out[before + letter + other + after] += 0.5 / len(near)
        out[before + letter + letter + after] += 0.5
        out[before + after] += 1
        out[before + after[:1] + letter + after[1:]] += 1
    out.pop(letters, None)                                            # two equal letters swapped: nothing happened
    total = sum(out.values())
    return {wrong: p / total for wrong, p in out.items()}


def misspell(word, rng):
    """The word with one slip; a word of one letter stays as it is, and one of letters that are on neither keyboard."""
    letters = to_letters(word)
    if len(letters) < 2 or not slips(letters):
        return word
    wrong, p = zip(*slips(letters).items())
    return to_syllables(wrong[rng.choice(len(wrong), p=p)])


def misspell_text(text, rng, *, rate=0.1):
    """The text with a slip in a random `rate` of its words. A slip never joins or splits words."""
    return WORD.sub(lambda found: misspell(found[0], rng) if rng.random() < rate else found[0], text)
