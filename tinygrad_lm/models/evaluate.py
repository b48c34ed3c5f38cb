"""Multiple choice by log-likelihood: the answer is the choice to which the model gives the highest probability, as GPT-3 was
evaluated ([GPT3] section 2.4), on questions of KoBEST's forms (Jang et al. 2022 [KOBEST])."""
from math import sqrt
from typing import NamedTuple

import numpy as np

from ..text.jsonl import read_jsonl, text_of

NORMALISATIONS = {                                       # what log p of a choice is divided by
    "none": lambda model, choice: 1,
    "bytes": lambda model, choice: len(choice.encode()),
    "tokens": lambda model, choice: len(model.ids(choice))}


class Question(NamedTuple):
    """What the model reads, what may follow, and which of these is right."""
    form: str
    language: str
    prompt: str
    choices: list
    label: int


# ---- forms: the fields of an item are KoBEST's ------------------------------------------------------------------------

class Form(NamedTuple):
    """How an item of one kind becomes a question: its texts as fields, and templates in each language."""
    fields: tuple
    templates: dict                                      # language -> (prompt, choices), with {fields}


YES_NO = {"en": [" No", " Yes"], "ko": [" 아니요", " 예"]}
FORMS = {
    "boolq": Form(("paragraph", "question"), {
        "en": ("{paragraph}\nQuestion: {question}\nAnswer:", YES_NO["en"]),
        "ko": ("{paragraph}\n질문: {question}\n대답:", YES_NO["ko"])}),
    "copa": Form(("premise", "question", "alternative_1", "alternative_2"), {
        "en": ("{premise} {link}", [" {alternative_1}", " {alternative_2}"]),
        "ko": ("{premise} {link}", [" {alternative_1}", " {alternative_2}"])}),
    "wic": Form(("word", "context_1", "context_2"), {
        "en": ('{context_1}\n{context_2}\nQuestion: Does "{word}" mean the same in both?\nAnswer:', YES_NO["en"]),
        "ko": ("{context_1}\n{context_2}\n질문: 두 문장에서 '{word}'의 뜻이 같은가?\n대답:", YES_NO["ko"])}),
    "hellaswag": Form(("context", "ending_1", "ending_2", "ending_3", "ending_4"), {
        language: ("{context}", [f" {{ending_{i}}}" for i in (1, 2, 3, 4)]) for language in ("en", "ko")}),
    "sentineg": Form(("sentence",), {
        "en": ("Review: {sentence}\nThe reviewer's opinion is", [" negative", " positive"]),
        "ko": ("평가: {sentence}\n이 평가는", [" 부정적이다", " 긍정적이다"])}),
}
LINKS = {"en": {"cause": "This happened because:", "effect": "As a result:"},                 # COPA asks for one of two
         "ko": {"cause": "왜냐하면", "effect": "그래서", "원인": "왜냐하면", "결과": "그래서"}}


def question_of(item):
    """The Question that an item, a dict, asks; a ValueError names the field that is wrong."""
    form, language = one_of(item, "form", FORMS), one_of(item, "language", LINKS)
    texts = {name: text_of(item, name).strip() for name in FORMS[form].fields}
    if form == "copa":
        texts["link"] = LINKS[language][one_of(item, "question", LINKS[language])]
    prompt, choices = FORMS[form].templates[language]
    label = item.get("label")
    if type(label) is not int or not 0 <= label < len(choices):
        raise ValueError(f'"label" is a number from 0 to {len(choices) - 1}, not {label!r}')
    return Question(form, language, prompt.format(**texts), [c.format(**texts) for c in choices], label)


def one_of(item, field, known):
    if item.get(field) not in (*known,):
        raise ValueError(f'"{field}" is one of {", ".join(known)}, not {item.get(field)!r}')
    return item[field]


def read_questions(path):
    """The questions of a JSONL file, an item a line; a ValueError names file, line and field."""
    return read_jsonl(path, question_of, like='{"form": …}')


# ---- scores ----------------------------------------------------------------------------------------------------------

def scores(model, questions, normalise="bytes"):
    """log p(choice | prompt), in nats, of each choice, divided by its length as `normalise` says: a float (choices,) for each
    question.

    Longer choices are less likely merely because they are longer; a byte is the same for all tokenizers. `model` is any
    LanguageModel; prompt and choice are made tokens apart. A network reads the questions together, and each prompt once.
    """
    if normalise not in NORMALISATIONS:
        raise ValueError(f"normalise is one of {', '.join(NORMALISATIONS)}, not {normalise!r}")
    length, asked = NORMALISATIONS[normalise], []
    for number, q in enumerate(questions, 1):
        try:
            asked.append((model.ids(q.prompt), [model.ids(c) for c in q.choices]))
        except ValueError as error:
            raise ValueError(f"question {number} ({q.form}, {q.language}) cannot be asked of this model: {error}") from None
    return [logp / [length(model, c) for c in q.choices] for q, logp in zip(questions, model.logprob_many(asked))]


class Result(NamedTuple):
    """Of one form in one language: how many items, the share of right answers, its 95 % interval, macro F1, and the share
    that guessing would get right."""
    form: str
    language: str
    items: int
    accuracy: float
    low: float
    high: float
    f1: float
    chance: float


def evaluate(model, questions, *, normalise="bytes"):
    """[Result], one for each form and language, in the order in which they first occur."""
    answers = {}
    for q, found in zip(questions, scores(model, questions, normalise)):
        answers.setdefault((q.form, q.language), []).append((q.label, int(found.argmax()), len(q.choices)))
    found = []
    for (form, language), rows in answers.items():
        labels, said, n_choices = np.array(rows).T
        right = int((labels == said).sum())
        found.append(Result(form, language, len(rows), right / len(rows), *wilson(right, len(rows)), macro_f1(labels, said),
                            float((1 / n_choices).mean())))
    return found


def wilson(right, n):
    """The 95 % interval of a share of which `right` of n were seen (Wilson 1927 [WILSON]): it stays within [0, 1] and has
    some width even where all were right."""
    z, p = 1.959964, right / n
    shrink = 1 / (1 + z * z / n)
    middle, width = shrink * (p + z * z / (2 * n)), shrink * z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, min(p, middle - width)), min(1.0, max(p, middle + width))          # rounding, at 0 and 1


def macro_f1(labels, said):
    """The mean over the classes, those that occur as label or answer, of 2 · right / (labels + answers): int (N,), (N,)."""
    found = [(labels == c, said == c) for c in np.union1d(labels, said)]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in found]))


def shipped():
    """The questions that come with the package."""
    from importlib.resources import as_file, files
    with as_file(files("tinygrad_lm") / "data/evaluation.jsonl") as path:
        return read_questions(path)


def show(results):
    """Print a table, a row for each form and language; the interval is that of 95 %."""
    from rich.console import Console
    from rich.table import Table
    table = Table("form", "language", "items", "accuracy", "interval", "macro F1", "guessing")
    for column in table.columns[2:]:
        column.justify = "right"
    for r in results:
        table.add_row(r.form, r.language, str(r.items), f"{r.accuracy:.1%}", f"{r.low:.0%} to {r.high:.0%}", f"{r.f1:.3f}",
                      f"{r.chance:.1%}")
    Console().print(table)
