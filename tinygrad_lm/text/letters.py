"""Letters of Hangul as tokens: a syllable is spelt, so that 33 letters write all 11,172 of them."""
from .char import CharTokenizer
from .jamo import FIRST, INITIALS, LAST, VOWELS, to_letters, to_syllables


class LetterTokenizer(CharTokenizer):
    """Characters, but of a Hangul syllable each letter (jamo): a small alphabet that spells every syllable there is."""
    kind = "letters"

    @classmethod
    def from_text(cls, text):
        return super().from_text(to_letters(text))

    def encode(self, text):
        return super().encode(to_letters(text))

    def decode(self, ids):
        return to_syllables(super().decode(ids))

    def settled(self, text):
        """The text of the tokens so far, less what the next letter may change: the last syllable, or single letter."""
        last = text[-1:]
        return text[:-1] if FIRST <= last <= LAST or last and last in INITIALS + VOWELS else text
