"""The instructions of the package: what is asked can be judged, and nothing held out is mentioned in what is learned."""
import json
import re

import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.text.chat import ROLE_TOKENS
from tinygrad_lm.text.conversations import conversation_of
from tinygrad_lm.text.instructions import (ANSWERS, KINDS, LANGUAGES, facts, instructions, material, obeys, understood,
                                           with_particles)

LEARNED, HELD_OUT = instructions()


def test_a_few_hundred_of_every_kind_in_both_languages():
    assert 300 < len(LEARNED) < 700 and len(HELD_OUT) > 80
    kinds = {(k, lang) for k in KINDS for lang in LANGUAGES} - {("capitals", "ko")}
    for items in (LEARNED, HELD_OUT):
        assert {(i.kind, i.language) for i in items} == kinds
    assert instructions() == (LEARNED, HELD_OUT) != instructions(seed=1)
    assert len({i.text for i in LEARNED + HELD_OUT}) == len(LEARNED) + len(HELD_OUT)


@pytest.mark.parametrize("seed", range(5))
def test_learned_and_held_out_share_no_word(seed):
    learned, held_out = instructions(seed=seed)
    for language in LANGUAGES:
        a, b = ({i.word for i in items if i.language == language} - {""} for items in (learned, held_out))
        assert a and b and not a & b
        assert not {i.answer for i in learned if i.kind == "opposite" and i.language == language} & b
    assert not {i.text for i in learned} & {i.text for i in held_out}
    told = {line.split(":")[0] for line in facts(held_out, others=[("en", i.word) for i in held_out])}
    asked = {i.word for i in held_out if i.kind in ANSWERS}
    assert not told & asked and told > {i.word for i in learned if i.kind in ANSWERS}


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_written_by_hand(language):
    words, pairs, names = material(language)
    opposites = [w for pair in pairs for w in pair]
    for items in (words, opposites, names):
        assert len(set(items)) == len(items)
    assert not set(words) & set(opposites)
    letters = "[a-z]{3,6}" if language == "en" else "[가-힣]{2,3}"
    assert all(re.fullmatch(letters, w) for w in words), [w for w in words if not re.fullmatch(letters, w)]


def test_answers_by_hand():
    expected = {"repeat": "pan", "backwards": "nap", "count": "3", "first": "p", "capitals": "PAN"}
    assert {kind: answer("pan") for kind, answer in ANSWERS.items()} == expected
    assert [ANSWERS[k]("지우개") for k in ("backwards", "count", "first")] == ["개우지", "3", "지"]


def test_every_answer_obeys_and_no_other_kinds_does():
    for i in LEARNED + HELD_OUT:
        assert obeys(i, i.answer) and obeys(i, f" {i.answer}.\n") and not obeys(i, None) and not obeys(i, "")
        assert not obeys(i, i.text) and (i.kind == "repeat" or not obeys(i, i.word)), i
        assert i.kind == "name" or not obeys(i, i.answer + "x") and not obeys(i, i.answer[1:])


@given(st.sampled_from(LEARNED), st.sampled_from(LEARNED))
def test_an_answer_to_something_else_obeys_only_where_it_is_the_same(one, other):
    assert obeys(one, other.answer) == (one.answer == other.answer)


@pytest.mark.parametrize("answer, right", [("I am Gram!", True), ("Gram", True), ("My grammar is good", False),
                                           ("Grammar", False), ("제 이름은 그램입니다.", True), ("My name is Bram.", False)])
def test_any_sentence_with_the_name_will_do(answer, right):
    for language in LANGUAGES:
        name = next(i for i in HELD_OUT if i.kind == "name" and i.language == language)
        if ("그램" in answer) == (language == "ko"):
            assert obeys(name, answer) == right


def test_particles():
    assert with_particles("{word}{을} {word}{은}", "물") == "물을 물은"
    assert with_particles("{word}{을} {word}{은}", "나무") == "나무를 나무는"
    assert with_particles("{word}{을}", "ab") == "ab를"
    for i in LEARNED + HELD_OUT:
        assert "{" not in i.text


def test_facts_are_true():
    lines = facts(HELD_OUT, others=[("en", "kevin"), ("ko", "하늘소")], often=2)
    assert {f"kevin: {rest}." for rest in ("again kevin", "backwards nivek", "capitals KEVIN", "first k", "letters 5")} == {
        line for line in lines if line.startswith("kevin:")}
    assert {f"하늘소: {rest}." for rest in ("다시 하늘소", "거꾸로 소늘하", "첫 하", "글자 3")} == {
        line for line in lines if line.startswith("하늘소:")}
    assert lines.count("hot: opposite cold.") == lines.count("작다: 반대 크다.") == 2 and lines.count("kevin: first k.") == 1


def test_every_instruction_is_understood_by_its_text():
    for i in LEARNED + HELD_OUT:
        assert understood(i.text) == i
    made_up = understood("qrx: spell it backwards.")
    assert (made_up.kind, made_up.word, made_up.right) == ("backwards", "qrx", ("xrq",))
    assert understood("하늘소를 거꾸로 써 줘.").answer == understood("하늘소을 거꾸로 써 줘.").answer == "소늘하"
    for text in ("qrx: what is the opposite?", "q r backwards, please.", "cat: spell it backwards. ",
                 ": spell it backwards.", "", "사과의"):
        assert understood(text) is None


def test_as_lines_of_a_file():
    for i in HELD_OUT:
        line = json.loads(json.dumps(i.to_dict()))
        assert conversation_of(line) == i.conversation() == [("user", i.text), ("assistant", i.answer)]
        assert not any(mark in i.text for mark in ROLE_TOKENS.marks)
