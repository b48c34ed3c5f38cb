"""Byte-pair encoding: begin with the 256 bytes and make the pair that stands together most often one token, again and again.

Sennrich et al. 2016 [BPE] did it with characters, GPT-2 [GPT2] with bytes: then nothing can be unknown.
"""
from collections import Counter, defaultdict
from functools import lru_cache
from heapq import heapify, heappop, heappush

# GPT-2 writes a token of any bytes as visible text: bytes that are visible in Latin-1 as themselves, the others from U+0100.
VISIBLE = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
BYTES = [*VISIBLE, *(b for b in range(256) if b not in VISIBLE)]         # in this order they are the tokens 0 … 255
AS_TEXT = {b: chr(b if b in VISIBLE else 0x100 + i - len(VISIBLE)) for i, b in enumerate(BYTES)}
AS_BYTE = {c: b for b, c in AS_TEXT.items()}


def to_visible(token):
    """A token's bytes as vocabularies write them: b" the" is Ġthe."""
    return "".join(AS_TEXT[b] for b in token)


def from_visible(text):
    """The bytes of a token in a vocabulary; one that is not written so stands for its own text."""
    try:
        return bytes(AS_BYTE[c] for c in text)
    except KeyError:
        return text.encode()


# ---- training -------------------------------------------------------------------------------------------------------

def train(words, vocab_size, *, special=(), min_count=2):
    """(tokens, merges) learned from {word: how often}.

    `tokens` is a list of at most `vocab_size`: the special tokens (str), the 256 bytes, then what the merges made, in their
    order; `merges` are pairs of ids. Of pairs equally frequent the one with the smaller ids goes first, so the result does
    not depend on the order of the words. It ends early when no pair occurs `min_count` times.
    """
    if vocab_size < len(special) + 256:
        raise ValueError(f"a vocabulary of {vocab_size} has no room for the 256 bytes and {len(special)} special tokens: "
                         f"it must be {len(special) + 256} at least")
    tokens = [*special, *(bytes([b]) for b in BYTES)]
    ids = {token: i for i, token in enumerate(tokens)}
    spelled = [[ids[bytes([b])] for b in word.encode()] for word in words]
    often = list(words.values())
    count, where = _count_pairs(spelled, often)
    queue = [(-n, pair) for pair, n in count.items()]
    heapify(queue)
    merges = []
    while queue and len(tokens) < vocab_size:
        n, pair = heappop(queue)
        if pair not in where:
            continue                                         # it stood in the queue twice, and is merged already
        if -n != count[pair]:
            if count[pair] > 0:
                heappush(queue, (-count[pair], pair))        # what has fallen since waits for its turn
            continue
        if -n < max(min_count, 1):
            break
        token = tokens[pair[0]] + tokens[pair[1]]
        if token not in ids:
            ids[token] = len(tokens)
            tokens.append(token)
        merges.append(pair)
        risen = set()
        for i in where.pop(pair):                            # only words that hold the pair are touched
            spelled[i], changes = merge_counted(spelled[i], pair, ids[token])
            for changed, by in changes:
                count[changed] += by * often[i]
                if by > 0:
                    where[changed].add(i)
                    risen.add(changed)
        for changed in risen:
            heappush(queue, (-count[changed], changed))
    return tokens, merges


def _count_pairs(spelled, often):
    """{pair: how often it stands in the text}, {pair: the words that hold it}"""
    count, where = defaultdict(int), defaultdict(set)
    for i, (word, n) in enumerate(zip(spelled, often)):
        for pair in zip(word, word[1:]):
            count[pair] += n
            where[pair].add(i)
    return count, where


def merge_counted(word, pair, token):
    """(the word with the pair made one token, from left to right; what that does to the counts of its neighbours)"""
    a, b = pair
    out, changes, i, last = [], [], 0, len(word) - 1
    while i <= last:
        if word[i] != a or i == last or word[i + 1] != b:
            out.append(word[i])
            i += 1
            continue
        if out:
            changes += ((out[-1], a), -1), ((out[-1], token), 1)
        out.append(token)
        i += 2
        if i <= last:
            changes += ((b, word[i]), -1), ((token, word[i]), 1)
    return out, changes


# ---- encoding -------------------------------------------------------------------------------------------------------

class BPE:
    """Words to ids by merges that were learned.

    `tokens` {id: bytes}, `merges` pairs of ids in the order of their rank. With `whole_words` a word that is a token is
    that token, whatever the merges would make of it (LLaMA 3). A byte that has no token (SmolLM's vocabulary lacks those it
    never saw) is the id `unknown`, a run of them one such id with `fuse`; without `unknown` it is an error.
    """

    def __init__(self, tokens, merges, *, whole_words=False, unknown=None, fuse=False):
        self.tokens, self.unknown, self.fuse = tokens, unknown, fuse
        ids = {token: i for i, token in tokens.items()}
        self.words = ids if whole_words else {}
        self.byte_ids = [ids.get(bytes([b])) for b in range(256)]
        self.ranks = {(a, b): (rank, ids[tokens[a] + tokens[b]]) for rank, (a, b) in enumerate(merges)}
        self.word_ids = lru_cache(2**16)(self._word_ids)     # a text repeats its words

    def _word_ids(self, word):
        data = word.encode()
        if data in self.words:
            return [self.words[data]]
        ids = [self.byte_ids[b] for b in data]
        if None in ids:
            if self.unknown is None:
                byte = data[ids.index(None)]
                raise ValueError(f"the vocabulary has no token for the byte {byte:#04x}, which {word!r} needs")
            ids = [self.unknown if i is None else i for at, i in enumerate(ids)
                   if not (self.fuse and at and i is ids[at - 1] is None)]
        return merge(ids, self.ranks)


def merge(ids, ranks):
    """Ids with every merge done, the earliest learned first and the leftmost of equals; O(n log n) for n ids.

    `ranks` is {(id, id): (rank, id of both)}. Merged ids leave gaps; `after` and `before` step over them.
    """
    ids, end = list(ids), len(ids)
    after, before = list(range(1, end + 1)), list(range(-1, end - 1))
    queue = [(*ranks[pair], i) for i, pair in enumerate(zip(ids, ids[1:])) if pair in ranks]
    heapify(queue)
    while queue:
        _, token, i = heappop(queue)
        j = after[i]
        if ids[i] is None or j == end or ranks.get((ids[i], ids[j]), (0, None))[1] != token:
            continue                                         # one of the two has become part of another
        ids[i], ids[j], after[i] = token, None, after[j]
        if after[j] < end:
            before[after[j]] = i
        for left, right in ((before[i], i), (i, after[i])):
            if left >= 0 and right < end and (ids[left], ids[right]) in ranks:
                heappush(queue, (*ranks[ids[left], ids[right]], left))
    return [i for i in ids if i is not None]


def count_words(texts, cut):
    """{word: how often} over texts, with `cut` a function from a text to its words."""
    words = Counter()
    for text in texts:
        words.update(cut(text))
    return words
