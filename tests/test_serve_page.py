"""The server as others use it: OpenAI's own client, and the page in a real browser. `pytest -m browser` runs these.

`python -m tests.test_serve_page URL FILE.png QUESTION …` photographs the page while it answers.
"""
import shutil
import sys
from contextlib import contextmanager

import pytest

from tinygrad_lm.serve.writer import Writer
from tinygrad_lm.text import names

from .test_gguf import TOKENIZER, a_llama
from .test_serve import a_writer, eventually, scripted, serving
from .test_serve import server, slow                                                       # fixtures    # noqa: F401

pytestmark = pytest.mark.browser


# ---- OpenAI's client ---------------------------------------------------------------------------------------------------

@pytest.fixture
def client(server):                                                                        # noqa: F811
    openai = pytest.importorskip("openai", reason="OpenAI's client is not installed (extra `clients`)")
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


ASKED = dict(model="cat", messages=[{"role": "user", "content": "the cat"}], max_tokens=10, seed=1)


def test_openai_client(client):
    assert [m.id for m in client.models.list()] == ["cat"] and client.models.retrieve("cat").id == "cat"
    whole = client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=3)
    assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 10
    assert [len(t.top_logprobs) for t in whole.choices[0].logprobs.content] == [3] * 10
    chunks = list(client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content and chunks[-1].usage == whole.usage
    text = client.completions.create(model="cat", prompt="the cat", max_tokens=5, logprobs=2, seed=1)
    parts = list(client.completions.create(model="cat", prompt="the cat", max_tokens=5, seed=1, stream=True))
    assert text.choices[0].text == "".join(p.choices[0].text for p in parts) and len(text.choices[0].logprobs.tokens) == 5


def test_openai_client_understands_refusals(client):
    import openai
    with pytest.raises(openai.BadRequestError, match="calls no tools") as refused:
        client.chat.completions.create(**ASKED, tools=[{"type": "function", "function": {"name": "f"}}])
    assert refused.value.param == "tools"
    with pytest.raises(openai.NotFoundError, match="gpt-4"):
        client.chat.completions.create(**ASKED | {"model": "gpt-4"})


def test_openai_client_stops(slow):                                                        # noqa: F811
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{slow.url}/v1", api_key="none", max_retries=0)
    with client.chat.completions.create(**ASKED | {"max_tokens": 150}, stream=True) as stream:
        next(iter(stream))
    slow.go.set()
    eventually(lambda: not slow.line.line)
    assert len(slow.written) < 20


# ---- the page ------------------------------------------------------------------------------------------------------------

@contextmanager
def a_browser():
    """Playwright's Chromium, driven as a person would."""
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright", reason="playwright is not installed (extra `clients`)")
    if not chromium():
        pytest.skip("no Chromium is installed")
    with a_browser() as running:
        yield running


@pytest.fixture
def visit(browser):
    """visit(server, …): the page in a window of its own; whatever goes wrong in it fails the test."""
    pages, wrong = [], []

    def open_page(server, **options):                                                      # noqa: F811
        page = browser.new_page(**options)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda r: r.failure == "net::ERR_ABORTED" or wrong.append(r.url))
        page.goto(server.url)
        page.wait_for_selector("#name:has-text('cat')")
        pages.append(page)
        return page
    yield open_page
    for page in pages:
        page.close()
    assert not wrong


def say(page, text):
    page.fill("#text", text)
    page.press("#text", "Enter")


def answered(page, n=1):
    """Wait for the n-th answer's end; its text."""
    page.wait_for_selector(".answer.busy", state="detached", timeout=300_000)
    page.wait_for_selector("#send:not(.stop)")
    return page.locator(".answer").nth(n - 1).inner_text()


def test_an_answer_with_its_probabilities(server, visit, monkeypatch):                     # noqa: F811
    scripted(monkeypatch, TOKENIZER.encode("cat 한글🙂 <b>bold</b>"))
    page = visit(server)
    assert page.locator("#send").is_disabled()
    page.click("#show")
    page.fill("#max_tokens", str(len(TOKENIZER.encode("cat 한글🙂 <b>bold</b>"))))
    say(page, "이름이 뭐야?")
    assert answered(page) == "cat 한글🙂 <b>bold</b>"                                     # text, and never HTML
    assert page.locator(".asked").inner_text() == "이름이 뭐야?"
    assert "perplexity" in page.locator(".turn small").inner_text()
    token = page.locator(".answer span[data-n]", has_text="한")
    assert page.locator("#card").is_hidden() and 0 <= float(token.evaluate("s => s.style.getPropertyValue('--u')")) <= 1
    token.hover()
    assert page.locator("#card table").count() == 3 and page.locator("#card tr.drawn").count() == 3
    assert page.locator("#card tr.drawn td").first.inner_text() == "ed"                    # the first byte of three
    cells = page.locator("#card table").first.locator("td:last-child")
    shares = [float(text.strip("%<>")) for text in cells.all_inner_texts()]
    assert len(shares) >= 3 and sum(shares) <= 101
    page.mouse.move(1, 1)
    assert page.locator("#card").is_hidden()
    page.locator(".answer").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#card tr.drawn td").first.inner_text() in ("c", "cat", "ca")
    page.keyboard.press("Escape")
    assert page.locator("#card").is_hidden()


def test_a_conversation_is_told_again_and_forgets_what_does_not_fit(visit, monkeypatch):
    asked = []
    from tinygrad_lm.serve import server as module
    understood = module.understood
    monkeypatch.setattr(module, "understood", lambda body, *a, **o: asked.append(body) or understood(body, *a, **o))
    with serving(a_writer(context=80)) as server:                                          # noqa: F811
        page = visit(server)
        page.click("#show")
        page.fill("#max_tokens", "6")
        page.fill("#system", "be")
        for n, text in enumerate(("the cat", "on mats", "sat", "the hats"), 1):
            say(page, text)
            answered(page, n)
        assert [m["role"] for m in asked[1]["messages"]] == ["system", "user", "assistant", "user"]
        assert asked[1]["messages"][2]["content"].strip() == page.locator(".answer").first.inner_text().strip()
        assert page.locator(".turn.forgotten").count() >= 2 and len(asked) > 4
        page.click("#again")
        assert page.locator(".turn").count() == 0 and page.locator("#welcome").is_visible()
        say(page, "on")
        answered(page)
        assert [m["role"] for m in asked[-1]["messages"]] == ["system", "user"]


def test_stop(slow, visit):                                                                # noqa: F811
    """What was said stays, and the server stops at once."""
    page = visit(slow)
    say(page, "the cat")
    page.wait_for_selector("#send.stop")
    eventually(lambda: len(slow.written) > 3)
    page.click("#send")
    page.wait_for_selector("#send:not(.stop)")
    assert "stopped" in page.locator(".turn small").inner_text()
    slow.go.set()
    eventually(lambda: not slow.line.line)
    assert len(slow.written) < 20


def test_errors_are_sentences_and_the_question_comes_back(server, visit):                 # noqa: F811
    page = visit(server)
    say(page, "the " * 300)
    page.wait_for_selector(".wrong")
    assert "tokens, and prompt and answer together have room for 200" in page.locator(".wrong").inner_text()
    assert page.input_value("#text").startswith("the the")


def test_enter_while_hangul_is_composed_sends_nothing(server, visit):                     # noqa: F811
    page = visit(server)
    page.fill("#text", "한")
    page.evaluate("document.getElementById('text').dispatchEvent(new KeyboardEvent('keydown', "
                  "{key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))")
    page.press("#text", "Shift+Enter")
    assert page.locator(".turn").count() == 0 and page.input_value("#text") == "한\n"


def test_a_model_that_continues(visit):
    from tinygrad_lm.models import GPT, GPTConfig
    t = names.tokenizer
    writer = Writer("cat", GPT(GPTConfig(t.vocab_size, 32, 1, 2, 16)), t, why_no_chat="no", start=t.encode("^")[0], end=1)
    with serving(writer) as server:                                                        # noqa: F811
        page = visit(server)
        say(page, "^k5>")
        text = answered(page)
        assert text.startswith("^k5>") and page.locator(".given").inner_text() == "^k5>"
        page.click("#show")
        assert page.locator("#system-label").is_hidden() and page.locator("#temperature").is_visible()
        if page.locator(".answer span[data-n]").count():
            page.locator(".answer span[data-n]").first.hover()
            assert page.locator("#card tr").count() >= 6


@pytest.mark.parametrize("width, scheme", [(1100, "light"), (360, "dark")])
def test_it_fits(server, visit, width, scheme):                                            # noqa: F811
    """Wide and narrow: nothing is cut off at the side, text can be read on its ground, and a tap shows the card."""
    page = visit(server, viewport={"width": width, "height": 640}, color_scheme=scheme, has_touch=True)
    say(page, "the cat sat on mats " * 5)
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{what}") for what in ("color", "backgroundColor"))
    assert contrast(ink, paper) > 7
    page.locator(".answer span[data-n]").last.tap()
    card = page.locator("#card").bounding_box()
    assert card["x"] >= 0 and card["x"] + card["width"] <= width and card["y"] >= 0 and card["y"] + card["height"] <= 640


def contrast(a, b):
    """How far two colours are apart, by WCAG's measure: 1 (the same) to 21."""
    def luminance(color):
        parts = [int(c) / 255 for c in color.strip("rgb()").split(",")]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# ---- its picture ---------------------------------------------------------------------------------------------------------

def picture(url, file, questions):
    """The page after these questions, with the card of the answer's token that was least expected."""
    with a_browser() as browser:
        page = browser.new_page(viewport={"width": 860, "height": 500}, device_scale_factor=1.25)
        page.goto(url)
        page.wait_for_selector("#about:has-text('reads')")
        for n, question in enumerate(questions, 1):
            say(page, question)
            answered(page, n)
        spans = page.locator(".answer >> nth=-1 >> span[data-n]")
        unlikely = spans.evaluate_all("spans => spans.map(span => +span.style.getPropertyValue('--u'))")
        spans.nth(max(range(len(unlikely)), key=unlikely.__getitem__)).hover()
        page.screenshot(path=file)


if __name__ == "__main__":
    picture(sys.argv[1], sys.argv[2], sys.argv[3:])
