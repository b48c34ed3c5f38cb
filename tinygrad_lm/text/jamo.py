"""Hangul: a syllable is a number, so that arithmetic takes it apart into its letters (jamo) and puts it together again.

A syllable has an initial consonant, a vowel and perhaps a final consonant: 19 · 21 · 28 = 11,172 of them, in that order in
Unicode. On the keyboard some vowels and finals take two keys (ㅘ is ㅗ and ㅏ); a letter here is a key.
"""
import re

INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
FINALS = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
FIRST, LAST = "가", "힣"

TWO_KEYS = dict(pair.split("=") for pair in (             # not dict(ㄳ=…): Python takes names for other letters
    "ㄳ=ㄱㅅ ㄵ=ㄴㅈ ㄶ=ㄴㅎ ㄺ=ㄹㄱ ㄻ=ㄹㅁ ㄼ=ㄹㅂ ㄽ=ㄹㅅ ㄾ=ㄹㅌ ㄿ=ㄹㅍ ㅀ=ㄹㅎ ㅄ=ㅂㅅ "
    "ㅘ=ㅗㅏ ㅙ=ㅗㅐ ㅚ=ㅗㅣ ㅝ=ㅜㅓ ㅞ=ㅜㅔ ㅟ=ㅜㅣ ㅢ=ㅡㅣ").split())
ONE_LETTER = {keys: letter for letter, keys in TWO_KEYS.items()}


def decompose(syllable):
    """(initial, vowel, final) of one syllable; the final may be "" """
    if not (len(syllable) == 1 and FIRST <= syllable <= LAST):
        raise ValueError(f"{syllable!r} is not one Hangul syllable ({FIRST} to {LAST})")
    rest, final = divmod(ord(syllable) - ord(FIRST), len(FINALS))
    initial, vowel = divmod(rest, len(VOWELS))
    return INITIALS[initial], VOWELS[vowel], FINALS[final]


def compose(initial, vowel, final=""):
    """The syllable of these letters."""
    if initial not in INITIALS or vowel not in VOWELS or final not in FINALS:
        raise ValueError(f"no syllable consists of {initial!r}, {vowel!r} and {final!r}")
    number = (INITIALS.index(initial) * len(VOWELS) + VOWELS.index(vowel)) * len(FINALS) + FINALS.index(final)
    return chr(ord(FIRST) + number)


def to_letters(text):
    """Every syllable as the keys that type it, 값 → ㄱㅏㅂㅅ; anything else as it is."""
    keys = ("".join(decompose(c)) if FIRST <= c <= LAST else c for c in text)
    return "".join(TWO_KEYS.get(letter, letter) for syllable in keys for letter in syllable)


def to_syllables(letters):
    """What a keyboard makes of these keys. A consonant before a vowel begins a syllable, one after a vowel ends it, and what
    fits nowhere stays alone: ㅇㅏㄴㅎ → 않, ㅇㅏㄴㅎㅏ → 안하, ㅎㅇㅏㄴ → ㅎ안."""
    return SYLLABLE.sub(lambda keys: compose(*(ONE_LETTER.get(k, k) for k in keys.groups(""))), letters)


SOUNDS = (dict(zip(INITIALS, ("g", "kk", "n", "d", "tt", "r", "m", "b", "pp", "s", "ss", "", *"j jj ch k t p h".split()))),
          dict(zip(VOWELS, "a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i".split())),
          dict(zip(FINALS, ("", *"k k k n n n t l k m l l l p l m p p t t ng t t k t p t".split()))))
ALONE = SOUNDS[2] | SOUNDS[1] | SOUNDS[0] | {"ㅇ": "ng"}


def romanised(text):
    """How Hangul sounds, roughly, syllable by syllable, in Latin letters: 한글 → hangeul; anything else as it is."""
    return "".join("".join(sounds[letter] for sounds, letter in zip(SOUNDS, decompose(c))) if FIRST <= c <= LAST
                   else ALONE.get(c, c) for c in text)


def _any_of(letters):
    return "(" + "|".join(sorted((TWO_KEYS.get(c, c) for c in letters), key=len, reverse=True)) + ")"


SYLLABLE = re.compile(f"([{INITIALS}]){_any_of(VOWELS)}(?:{_any_of(FINALS[1:])}(?![{VOWELS}]))?")
