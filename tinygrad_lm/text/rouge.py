"""How alike two texts are: ROUGE-L, by the longest sequence of words that both have in this order (Lin 2004 [ROUGE])."""
import re

WORD = re.compile(r"[^\W_]+")                   # letters and digits of any script; the usual one knows a-z and 0-9 alone


def words_of(text):
    """The words that are compared, in lower case. Of ASCII text the same as the rouge-score package's, without stemming;
    that one drops every Hangul syllable, so that no two Korean texts would be alike."""
    return WORD.findall(text.lower())


def common(a, b):
    """The length of the longest common subsequence of two sequences."""
    best = [0] * (len(b) + 1)                                  # of a's beginning so far and b[:j]
    for x in a:
        before = 0                                             # best[j − 1] of the row before
        for j, y in enumerate(b, 1):
            before, best[j] = best[j], before + 1 if x == y else max(best[j], best[j - 1])
    return best[-1]


def rouge_l(a, b):
    """2 · common / (words of a + words of b): the F-measure of precision and recall. 1 for the same words, 0 for none."""
    a, b = words_of(a), words_of(b)
    return 2 * common(a, b) / (len(a) + len(b)) if a and b else 0.0
