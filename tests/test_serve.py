"""The server: answers as OpenAI's clients expect them; what comes from outside is answered or refused; nothing hangs."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import numpy as np
import pytest

from tinygrad_lm.models import GPT, GPTConfig, save_pretrained
from tinygrad_lm.serve import server as module
from tinygrad_lm.serve.line import Full, Line
from tinygrad_lm.serve.requests import Refused, understood
from tinygrad_lm.serve.server import Gone, Server
from tinygrad_lm.serve.writer import Answer, Writer, load_writer
from tinygrad_lm.text import names, tokenizer_json
from tinygrad_lm.text.chat import CHATML

from .test_gguf import TOKENIZER, a_llama

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
HELLO = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 12}
ROOT = Path(__file__).parents[1]


def a_writer(**options):
    """A model that writes anything: its vocabulary is larger than the tokenizer's, and its weights are random."""
    config = replace(a_llama().config, vocab_size=len(TOKENIZER) + 200)
    model = GPT(config, rng=np.random.default_rng(0))
    for p in model.parameters():
        if p.ndim == 2:
            p.data *= 3
    options = dict(template=CHATML, start=0, end=0, context=200) | options
    return Writer("cat", model, TOKENIZER, **options)


@contextmanager
def serving(writer=None, **options):
    server = Server(a_writer() if writer is None else writer, port=0, rng=np.random.default_rng(0), **options)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.end()
        thread.join()


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


def ask(server, method, path, body=None, headers={}):
    """(status, headers, body) of a request by a plain client; a dict is sent as JSON."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    raw = json.dumps(body).encode() if isinstance(body, dict | list) else body
    kind = {"Content-Type": "application/json"} if raw is not None else {}
    connection.request(method, path, raw, kind | headers)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def post(server, path, **body):
    status, _, answer = ask(server, "POST", path, body)
    return status, json.loads(answer)


def events(raw):
    lines = raw.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""] and all(line.startswith("data: ") for line in lines[:-1])
    return [json.loads(line[6:]) for line in lines[:-2]]


def streamed(server, path, **body):
    status, headers, raw = ask(server, "POST", path, body | {"stream": True})
    assert status == 200 and headers["Content-Type"] == "text/event-stream"
    return events(raw)


# ---- answers ---------------------------------------------------------------------------------------------------------

def test_what_is_there(server):
    health = json.loads(ask(server, "GET", "/health")[2])
    assert health == {"status": "ok", "model": "cat", "chat": True, "context": 200, "max_tokens": 200, "waiting": 0}
    models = json.loads(ask(server, "GET", "/v1/models")[2])
    assert [m["id"] for m in models["data"]] == ["cat"]
    assert json.loads(ask(server, "GET", "/v1/models/cat")[2]) == models["data"][0]
    status, headers, page = ask(server, "GET", "/?anything")
    assert status == 200 and b"<textarea" in page and "default-src 'none'" in headers["Content-Security-Policy"]
    assert not re.search(rb"(src|href)=\"(?!data:,)", page), "the page loads nothing from elsewhere"


@pytest.mark.parametrize("path, body", [(CHAT, HELLO), (COMPLETION, {"prompt": "the cat", "max_tokens": 12})])
def test_whole_and_streamed_are_the_same(server, path, body):
    body = body | {"seed": 3, "n": 2, "temperature": 1.5, "model": "cat"}
    whole = post(server, path, **body)[1]
    chunks = streamed(server, path, **body, stream_options={"include_usage": True})
    assert whole["object"] == ("chat.completion" if path == CHAT else "text_completion")
    assert {c["object"] for c in chunks} == {"chat.completion.chunk" if path == CHAT else "text_completion"}
    for i, choice in enumerate(whole["choices"]):
        parts = [c["choices"][0] for c in chunks if c["choices"] and c["choices"][0]["index"] == i]
        text = choice["message"]["content"] if path == CHAT else choice["text"]
        assert text == "".join(p["delta"].get("content", "") if path == CHAT else p["text"] for p in parts)
        assert [p["finish_reason"] for p in parts if p["finish_reason"]] == [choice["finish_reason"]] == ["length"]
    assert whole["usage"] == chunks[-1]["usage"] and whole["usage"]["completion_tokens"] == 24
    assert chunks[-1]["choices"] == [] and all(c["usage"] is None for c in chunks[:-1])
    assert whole["choices"][0] != whole["choices"][1]


def test_seeds_repeat_whoever_asked_before(server, monkeypatch):
    def written(seed):
        return post(server, CHAT, **HELLO, seed=seed, temperature=2)[1]["choices"][0]["message"]["content"]
    first = written(1)
    post(server, COMPLETION, prompt="mats", max_tokens=3)
    assert written(1) == first != written(2)
    sizes, read = [], server.writer.reader.read
    monkeypatch.setattr(server.writer.reader, "read", lambda new, cache: sizes.append(len(new)) or read(new, cache))
    post(server, CHAT, **HELLO, temperature=2)
    assert sizes[0] == 1                                                                  # the rest is known
    written(1)
    assert sizes[12] == len(server.writer.chat_ids([("user", "the cat")]))    # the same sums again
    texts = {post(server, CHAT, **HELLO, temperature=2)[1]["choices"][0]["message"]["content"] for _ in range(3)}
    assert len(texts) == 3


def test_it_writes_what_the_model_says():
    """Greedy, against reading all anew, with what was read before in the cache."""
    writer = a_writer(context=60)
    for text in ("the cat", "the cat sat", "on"):
        asked = understood({"prompt": text, "temperature": 0, "max_tokens": 8}, writer, chat=False, most_tokens=9)
        answer = Answer(writer, asked, None, lambda: None)
        list(answer)
        ids = list(asked.ids)
        for token in answer.ids:
            assert token == writer.network(np.array([ids])).data[0, -1, :len(TOKENIZER)].argmax()
            ids.append(token)
        assert len(answer.ids) == 8 and answer.reason == "length"


def test_the_conversation_is_the_template(server):
    w = server.writer
    said = [("system", "be"), ("user", "the cat"), ("assistant", "sat"), ("user", "on")]
    expected = [i for role, text in said for i in CHATML.message(TOKENIZER, role, text)]
    expected += CHATML.begin(TOKENIZER, "assistant")
    parts = [{"type": "text", "text": "the "}, {"type": "text", "text": "cat"}]
    messages = [{"role": "developer", "content": "be"}, {"role": "user", "content": parts},
                {"role": "assistant", "content": "sat"}, {"role": "user", "content": "on", "name": "x"}]
    assert understood({"messages": messages}, w, chat=True, most_tokens=5).ids == tuple(expected)
    told = a_writer(template=CHATML._replace(system="a cat"))
    assert told.chat_ids([("user", "on")]) == told.chat_ids([("system", "a cat"), ("user", "on")])
    assert told.chat_ids([("system", "be"), ("user", "on")]) == w.chat_ids([("system", "be"), ("user", "on")])


def test_prompts_of_ids_and_empty_ones(server):
    ids = TOKENIZER.encode("the cat").tolist()
    asked = {p: post(server, COMPLETION, prompt=v, max_tokens=5, temperature=0, echo=True)[1]["choices"][0]["text"]
             for p, v in (("text", "the cat"), ("list", ["the cat"]), ("ids", ids), ("ids in a list", [ids]))}
    assert len(set(asked.values())) == 1 and asked["ids"].startswith("the cat")
    assert post(server, COMPLETION, prompt="", max_tokens=2)[1]["usage"]["prompt_tokens"] == 1


def test_probabilities(server):
    """They are the model's own: of all alternatives together at most 1, whatever the temperature."""
    body = {"max_tokens": 6, "seed": 1, "temperature": 1.7, "top_p": 0.5}
    told = post(server, CHAT, messages=HELLO["messages"], logprobs=True, top_logprobs=5, **body)[1]["choices"][0]
    content = told["logprobs"]["content"]
    text = b"".join(bytes(t["bytes"]) for t in content).decode(errors="replace")
    assert len(content) == 6 and text == told["message"]["content"]
    for t in content:
        p = np.exp([o["logprob"] for o in t["top_logprobs"]])
        assert len(p) == 5 and p.sum() <= 1 + 1e-9 and (np.diff(p) <= 0).all()
    ids, w = list(server.writer.chat_ids([("user", "the cat")])), server.writer
    scores = w.network(np.array([ids])).data[0, -1, :len(TOKENIZER)].astype(float)
    best = np.log(np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()).max()
    assert content[0]["top_logprobs"][0]["logprob"] == pytest.approx(best, abs=1e-4)
    told = post(server, COMPLETION, prompt="the", logprobs=2, echo=False, **body)[1]["choices"][0]
    lists = told["logprobs"]
    assert [len(lists[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")] == [6] * 4
    assert all(len(o) <= 2 for o in lists["top_logprobs"]) and lists["text_offset"][0] == 0
    assert post(server, COMPLETION, prompt="the", **body)[1]["choices"][0]["logprobs"] is None


def scripted(monkeypatch, ids):
    """Whatever the model says, these tokens are drawn."""
    script = iter(ids)
    monkeypatch.setattr("tinygrad_lm.serve.writer.draw", lambda logp, rng: [next(script)])


def test_characters_come_whole(server, monkeypatch):
    """A token may be a part of a character; the chunk that has the character has the probabilities of all its tokens."""
    ids = TOKENIZER.encode("a 한🙂").tolist()
    assert len(ids) == 9
    scripted(monkeypatch, ids)
    chunks = [c["choices"][0] for c in streamed(server, CHAT, **HELLO | {"max_tokens": 9}, logprobs=True)][1:-1]
    assert [c["delta"]["content"] for c in chunks] == ["a", " ", "한", "🙂"]
    assert [len(c["logprobs"]["content"]) for c in chunks] == [1, 1, 3, 4]
    assert [c["logprobs"]["content"][-1]["token"] for c in chunks] == ["a", " ", "\ufffd", "\ufffd"]


def test_parts_of_characters_have_names_of_their_own(server, monkeypatch):
    scripted(monkeypatch, TOKENIZER.encode("한").tolist())
    told = post(server, COMPLETION, prompt="x", max_tokens=3, logprobs=20)[1]["choices"][0]
    assert told["text"] == "한" and told["logprobs"]["tokens"] == [r"bytes:\xed", r"bytes:\x95", r"bytes:\x9c"]
    assert [len(others) for others in told["logprobs"]["top_logprobs"]] == [20] * 3


@pytest.mark.parametrize("stop, text", [("at s", "the c"), (["zz", "mats", "cat"], "the "), ("the", ""),
                                        ([], "the cat sat")])
def test_stop_strings(server, monkeypatch, stop, text):
    ids = TOKENIZER.encode("the cat sat").tolist()
    scripted(monkeypatch, ids)
    choice = post(server, COMPLETION, prompt="x", max_tokens=len(ids), stop=stop, logprobs=0)[1]["choices"][0]
    assert choice["text"] == text and choice["finish_reason"] == ("stop" if stop else "length")
    told = "".join(choice["logprobs"]["tokens"])
    assert told.startswith(text) and len(choice["logprobs"]["tokens"]) <= len(ids)
    assert all(offset < max(1, len(text)) for offset in choice["logprobs"]["text_offset"])


def test_tokens_behind_a_stop_are_not_told(server, monkeypatch):
    """b waits, for it may be the beginning of a stop string; it comes without the c, which is one."""
    scripted(monkeypatch, TOKENIZER.encode("abc").tolist())
    choice = post(server, COMPLETION, prompt="x", max_tokens=3, stop=["bcx", "c"], logprobs=0)[1]["choices"][0]
    assert choice["text"] == "ab" and choice["logprobs"]["tokens"] == ["a", "b"] and choice["finish_reason"] == "stop"


def test_it_ends_at_its_mark(server, monkeypatch):
    for end in (CHATML.end, "<|endoftext|>"):
        scripted(monkeypatch, [*TOKENIZER.encode("cat"), TOKENIZER.id_of(end)])
        told = post(server, CHAT, **HELLO)[1]
        assert told["choices"][0]["message"]["content"] == "cat" and told["choices"][0]["finish_reason"] == "stop"


def test_penalties(server):
    free = post(server, COMPLETION, prompt="the", max_tokens=40, temperature=0, logprobs=0)[1]["choices"][0]
    held = post(server, COMPLETION, prompt="the", max_tokens=40, temperature=0, logprobs=0, frequency_penalty=2,
                presence_penalty=2)[1]["choices"][0]
    assert len(set(held["logprobs"]["tokens"])) > len(set(free["logprobs"]["tokens"]))


def test_writing_stops_where_the_context_is_full(server, monkeypatch):
    scripted(monkeypatch, TOKENIZER.encode("a" * 200).tolist())
    told = post(server, COMPLETION, prompt="the cat " * 30)[1]
    assert told["usage"]["total_tokens"] == 200 and told["choices"][0]["finish_reason"] == "length"


# ---- what is refused -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("body, param, says", [
    ({"messages": []}, "messages", "at least one"),
    ({"messages": [{"role": "root", "content": "x"}]}, "messages[0].role", "system, user or assistant, not 'root'"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role", "system, user or assistant"),
    ({"messages": ["x"]}, "messages[0]", "an object with role and content"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "is a text, or a list"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "nothing else is read"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages", "half a surrogate pair"),
    ({"messages": [{"role": "user", "content": "the " * 300}]}, "messages", r"has \d+ tokens, .* room for 200"),
    ({"temperature": 3}, "temperature", "from 0 to 2, not 3"), ({"temperature": True}, "temperature", "not True"),
    ({"temperature": 1e999}, "temperature", "JSON|from 0 to 2"), ({"top_p": 0}, "top_p", "above 0"),
    ({"max_tokens": 0}, "max_tokens", "whole number from 1 to 200"), ({"max_tokens": 1.5}, "max_tokens", "whole number"),
    ({"max_completion_tokens": 201}, "max_completion_tokens", "from 1 to 200, not 201"), ({"n": 9}, "n", "from 1 to 8"),
    ({"stop": ["a"] * 5}, "stop", "at most 4"), ({"stop": ""}, "stop", "empty"), ({"seed": "1"}, "seed", "whole number"),
    ({"stream": "yes"}, "stream", "true or false"), ({"stream": 1}, "stream", "true or false"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "belongs to stream"),
    ({"top_logprobs": 2}, "top_logprobs", "belongs to logprobs"), ({"logprobs": 2}, "logprobs", "true or false"),
    ({"tools": [{}]}, "tools", "calls no tools"),
    ({"response_format": {"type": "json_object"}}, "response_format", "grammar"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "not supported"), ({"temprature": 1}, "temprature", "no field 'temprature'"),
    ({"prompt": "x"}, "prompt", "no field 'prompt' here"), ({"presence_penalty": -3}, "presence_penalty", "from -2 to 2"),
])
def test_fields_that_are_wrong_are_named(server, body, param, says):
    status, told = post(server, CHAT, **HELLO | body)
    error = told["error"]
    assert status == 400 and error["type"] == "invalid_request_error" and re.search(says, error["message"])
    assert error["param"] in (param, None) and (error["param"] or "JSON" in error["message"])


@pytest.mark.parametrize("body, param, says", [
    ({"prompt": ["a", "b"]}, "prompt", "several prompts are several requests"), ({"prompt": [1.0]}, "prompt", "token ids"),
    ({"prompt": [-1]}, "prompt", "outside the vocabulary, 0 to"), ({"prompt": []}, "prompt", "a list of token ids"),
    ({"echo": True, "logprobs": 1, "prompt": "a"}, "echo", "leave out"), ({"best_of": 3}, "best_of", "ask for several"),
    ({"logprobs": 21}, "logprobs", "from 0 to 20"), ({"suffix": "x"}, "suffix", "left to right")])
def test_fields_of_completions(server, body, param, says):
    status, told = post(server, COMPLETION, **body)
    assert status == 400 and told["error"]["param"] == param and says in told["error"]["message"]


def test_what_changes_nothing_is_taken(server):
    same = {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "logit_bias": {}, "user": "me",
            "metadata": {"a": "b"}, "store": False, "stop": None, "n": None, "logprobs": False, "functions": None}
    assert post(server, CHAT, **HELLO, **same)[0] == 200


def test_another_model(server):
    status, told = post(server, CHAT, **HELLO, model="gpt-4")
    assert status == 404 and told["error"]["code"] == "model_not_found" and "'cat'" in told["error"]["message"]


@pytest.mark.parametrize("method, path, body, headers, status, says", [
    ("POST", CHAT, b"{", {}, 400, "not JSON"), ("POST", CHAT, b"[" * 100_000, {}, 400, "not JSON"),
    ("POST", CHAT, b"\xff\xfe", {}, 400, "not JSON"), ("POST", CHAT, b'{"temperature": NaN}', {}, 400, "NaN is no number"),
    ("POST", CHAT, b"[]", {}, 400, "must be a JSON object"), ("POST", CHAT, b"x" * 3_000_000, {}, 413, "3,000,000 bytes"),
    ("POST", CHAT, b"{}", {"Content-Type": "text/plain"}, 415, "application/json"),
    ("POST", CHAT, b"{}", {"Content-Length": "-1"}, 411, "Content-Length"),
    ("POST", CHAT, b"{}", {"Transfer-Encoding": "chunked"}, 411, "Content-Length"),
    ("POST", CHAT, b"{}", {"Content-Length": "9" * 5000}, 413, "the body has"),
    ("POST", CHAT, json.dumps({"model": "x" * 900_000} | HELLO).encode(), {}, 404, "'xxx"),
    ("POST", CHAT, json.dumps({"x" * 900_000: 1} | HELLO).encode(), {}, 400, "no field 'xxx"),
    ("GET", CHAT, None, {}, 405, "asked by POST"), ("POST", "/health", b"{}", {}, 405, "asked by GET"),
    ("GET", "/etc/passwd", None, {}, 404, "nothing at /etc/passwd"), ("PUT", CHAT, b"{}", {}, 501, "PUT"),
    ("GET", "/health", None, {"Host": "evil.example"}, 403, "evil.example"),
    ("GET", "/health", None, {"Host": "[broken"}, 403, "not this machine"),
    ("POST", CHAT, b"{}", {"Origin": "http://evil.example"}, 403, "may not ask"),
    ("POST", CHAT, b"{}", {"Origin": "http://["}, 403, "may not ask"),
    ("POST", CHAT, b"{}", {"Origin": "null"}, 403, "may not ask")])
def test_requests_that_are_refused(server, method, path, body, headers, status, says):
    found, answered, raw = ask(server, method, path, body, headers)
    assert found == status and says in json.loads(raw)["error"]["message"] and len(raw) < 1000
    assert "Access-Control-Allow-Origin" not in answered and (status != 405 or answered["Allow"])


def test_names_of_this_machine_are_known(server):
    port = server.server_address[1]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:1", "LOCALHOST"):
        assert ask(server, "GET", "/health", headers={"Host": host, "Origin": f"http://{host}"})[0] == 200


def test_lines_that_are_no_request(server):
    for sent in (b"nonsense\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
                 b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n"):
        with socket.create_connection(server.server_address, timeout=60) as s:
            s.sendall(sent)
            s.shutdown(socket.SHUT_WR)
            assert b'"invalid_request_error"' in b"".join(iter(lambda: s.recv(4096), b""))
    assert ask(server, "GET", "/health")[0] == 200


def test_a_request_that_does_not_come_is_not_waited_for(server, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 1)
    with socket.create_connection(server.server_address, timeout=60) as s:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{"
        s.sendall(head.encode())
        assert b" 408 " in b"".join(iter(lambda: s.recv(4096), b""))
    with socket.create_connection(server.server_address, timeout=60) as s:
        s.sendall(b"GET /hea")
        assert s.recv(4096) == b""


def test_who_takes_an_answer_slowly_does_not_keep_the_others_waiting(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    handler = module.Handler.__new__(module.Handler)
    handler.chunked, handler.stalled, handler.wfile = True, 0.0, handler
    handler.write = lambda data: now.__setitem__(0, now[0] + module.PATIENCE / 3)
    for _ in range(3):
        handler.event("")
    now[0] += 100                                                # time in which the model writes is not the client's
    with pytest.raises(TimeoutError):
        handler.event("")


def test_what_was_said_is_logged_in_part():
    said, logged = [], Event()
    with serving(say=lambda line: said.append(line) or logged.set()) as server:
        ask(server, "GET", "/" + "a" * 50_000)
        assert logged.wait(60) and 300 < len(said[0]) < 700


def test_a_body_that_is_too_long_is_refused_before_it_is_sent(server):
    for digits in ("9" * 7, "9" * 5000):
        with socket.create_connection(server.server_address, timeout=60) as s:
            s.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {digits}\r\n"
                      "Expect: 100-continue\r\n\r\n".encode())
            assert s.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("start", ["GET /health HTTP/1.1\r\nContent-Length: 38",
                                   f"POST {COMPLETION} HTTP/1.1\r\nContent-Type: application/json\r\n"
                                   "Content-Length: 2\r\nContent-Length: 40"])
def test_a_body_is_never_taken_for_a_request(server, start):
    hidden = "{}" * start.startswith("POST") + "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(server.server_address, timeout=60) as s:
        s.sendall(f"{start}\r\nHost: localhost\r\n\r\n{hidden}".encode())
        s.shutdown(socket.SHUT_WR)
        found = b""
        try:
            while more := s.recv(4096):
                found += more
        except ConnectionResetError:                             # what was not read was thrown away with the connection
            pass
    assert found.count(b"HTTP/1.1 ") <= 1 and b"hidden" not in found


def test_one_connection_serves_several_requests(server):
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    for stream in (False, True, False):
        connection.request("POST", CHAT, json.dumps(HELLO | {"stream": stream}), {"Content-Type": "application/json"})
        socket_used = connection.sock
        assert connection.getresponse().read() and connection.sock is socket_used is not None
    connection.close()


def test_a_client_of_http_1_0(server):
    body = json.dumps(HELLO | {"stream": True}).encode()
    with socket.create_connection(server.server_address, timeout=60) as s:
        s.sendall(f"POST {CHAT} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        raw = b"".join(iter(lambda: s.recv(4096), b""))
    assert events(raw.split(b"\r\n\r\n", 1)[1]) and b"chunked" not in raw


def test_weights_that_are_damaged():
    writer = a_writer()
    writer.network.ln_f.weight.data[:] = np.nan
    with serving(writer) as server:
        status, told = post(server, CHAT, **HELLO)
        assert status == 500 and "NaN" in told["error"]["message"] and told["error"]["type"] == "server_error"
        raw = ask(server, "POST", CHAT, HELLO | {"stream": True})[2]
        assert "NaN" in json.loads(raw.decode().removeprefix("data: "))["error"]["message"]


# ---- several at once -------------------------------------------------------------------------------------------------

@pytest.fixture
def slow(monkeypatch):
    """A server whose model waits, token by token, for `go`; `written` counts the tokens."""
    writer, go, written = a_writer(), Event(), []
    scores_after = writer.reader.scores_after

    def waiting(ids, go_on):
        written.append(len(ids))
        while not go.wait(0.02) and len(written) > 3:
            sleep(0.01)
        return scores_after(ids, go_on)
    monkeypatch.setattr(writer.reader, "scores_after", waiting)
    with serving(writer, places=2) as server:
        server.go, server.written = go, written
        yield server
        go.set()


def eventually(true):
    until = monotonic() + 60
    while not true():
        assert monotonic() < until
        sleep(0.01)


def test_one_at_a_time_and_a_full_line(slow):
    done, threads = [], []
    for i in range(3):
        threads.append(Thread(target=lambda i=i: done.append((i, post(slow, CHAT, **HELLO, seed=i)[0]))))
        threads[-1].start()
        eventually(lambda: len(slow.line.line) == i + 1)
    assert json.loads(ask(slow, "GET", "/health")[2])["waiting"] == 2                      # others are answered meanwhile
    status, headers, raw = ask(slow, "POST", CHAT, HELLO)
    assert status == 429 and int(headers["Retry-After"]) >= 1 and json.loads(raw)["error"]["type"] == "rate_limit_error"
    slow.go.set()
    for thread in threads:
        thread.join()
    assert sorted(done) == [(0, 200), (1, 200), (2, 200)]                   # in which order: test_the_line
    eventually(lambda: not slow.line.line)


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_is_not_written_for(slow, stream):
    def sent(body):
        s = socket.create_connection(slow.server_address, timeout=60)
        raw = json.dumps(body).encode()
        s.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        return s
    first = sent(HELLO | {"stream": stream, "max_tokens": 150})
    eventually(lambda: len(slow.written) > 3)
    second = sent(HELLO)
    eventually(lambda: len(slow.line.line) == 2)
    second.close()                                                       # one who waits
    eventually(lambda: len(slow.line.line) == 1)
    first.close()                                                        # one who is answered
    slow.go.set()
    eventually(lambda: not slow.line.line)
    assert len(slow.written) < 10
    assert post(slow, CHAT, **HELLO)[0] == 200


def test_answers_end_with_the_server(slow):
    cut = []

    def asks():
        with pytest.raises(http.client.IncompleteRead):
            ask(slow, "POST", CHAT, HELLO | {"stream": True, "max_tokens": 150})
        cut.append(True)
    thread = Thread(target=asks)
    thread.start()
    eventually(lambda: len(slow.written) > 3)
    slow.ending = True
    slow.go.set()
    eventually(lambda: not slow.line.line)
    thread.join()
    assert len(slow.written) < 10 and cut


def gone():
    raise Gone


def test_the_line():
    line, order = Line(5), []
    with line.turn(lambda: None):
        def wait(i):
            with line.turn(lambda: None):
                order.append(i)
        threads = []
        for i in range(5):
            threads.append(Thread(target=wait, args=(i,)))
            threads[-1].start()
            eventually(lambda: line.waiting == i + 1)
        with pytest.raises(Full), line.turn(lambda: None):
            pass
        first = line.line[0]
        line.places = 6
        with pytest.raises(Gone), line.turn(gone):                       # one who leaves takes nobody else's place
            pass
        assert line.line[0] is first and line.waiting == 5
    for thread in threads:
        thread.join()
    assert order == list(range(5))
    with pytest.raises(KeyError), line.turn(lambda: None):
        raise KeyError
    assert not line.line


def test_too_many_connections_are_closed(monkeypatch):
    monkeypatch.setattr(module, "CONNECTIONS", 2)
    with serving() as server:
        held = [socket.create_connection(server.server_address, timeout=60) for _ in range(2)]
        for s in held:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert s.recv(4096)
        with socket.create_connection(server.server_address, timeout=60) as one_more:
            assert one_more.recv(1) == b""
        held[0].close()
        eventually(lambda: server.connections._value > 0)
        assert ask(server, "GET", "/health")[0] == 200
        held[1].close()


# ---- models and the command ------------------------------------------------------------------------------------------

def test_a_model_that_names(tmp_path):
    """A checkpoint of the road: no chat, and it says so; unknown characters are refused."""
    from tinygrad_lm.checkpoint import pack, save
    from tinygrad_lm.models.saved import describe
    model = GPT(GPTConfig(names.tokenizer.vocab_size, 16, 1, 2, 16), rng=np.random.default_rng(0))
    save(tmp_path / "sft" / "checkpoint.safetensors", pack({"model": model})[0], describe(model, names.tokenizer))
    writer = load_writer(tmp_path / "sft")
    assert writer.name == "sft" and writer.template is None and writer.context == 16
    with serving(writer) as server:
        assert post(server, COMPLETION, prompt="^k5>", max_tokens=3)[0] == 200
        status, told = post(server, CHAT, **HELLO)
        assert status == 400 and "not tuned to chat" in told["error"]["message"] and COMPLETION in told["error"]["message"]
        status, told = post(server, COMPLETION, prompt="K")
        assert status == 400 and "character 'K'" in told["error"]["message"] and told["error"]["param"] == "prompt"
        assert json.loads(ask(server, "GET", "/health")[2])["chat"] is False


def a_folder(path):
    save_pretrained(a_llama(), path)
    settings = json.loads((path / "config.json").read_text()) | {"eos_token_id": 0}
    (path / "config.json").write_text(json.dumps(settings))
    tokenizer_json.save(path / "tokenizer.json", TOKENIZER)
    return path


def start(*arguments):
    command = [sys.executable, "-m", "tinygrad_lm.cli", "serve", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                            env=os.environ | {"PYTHONUNBUFFERED": "1"})


def test_the_command(tmp_path):
    """It says where it listens, answers, says that a port is taken, and ends by Ctrl-C."""
    process = start(a_folder(tmp_path), "--port", 0, "--max-tokens", 5, "--seed", 1)
    try:
        said = process.stdout.readline()
        port = int(re.search(r"chats on http://127.0.0.1:(\d+),", said)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", CHAT, json.dumps(HELLO | {"max_tokens": 5}), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        connection.close()
        other = start(tmp_path, "--port", port)
        assert other.wait(60) == 1
        assert re.fullmatch(f"error: cannot listen on port {port} of .*--port.*\n", other.stderr.read())
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    errors = process.stderr.read()
    assert "no more requests" in errors and "5 tokens" in errors and "Traceback" not in errors


def test_what_cannot_be_served(tmp_path):
    from tinygrad_lm.checkpoint import CheckpointError
    with pytest.raises(CheckpointError, match="there is no file or folder"):
        load_writer(tmp_path / "nothing")
    with pytest.raises(Refused, match="must be a JSON object"):
        understood(3, a_writer(), chat=True, most_tokens=5)
