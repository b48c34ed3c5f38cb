"""The server: HTTP/1.1 with the standard library. A thread a connection; the model answers one request at a time (line.py).

What comes from outside is bounded before anything is done with it: connections, headers and bodies in size and in time. A
page of another site that the user has open can neither read answers nor ask: the browser says whose page it is (Origin), and
which name it believes to talk to (Host).
"""
import json
import select
import socket
import sys
from base64 import b64encode
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from io import BufferedReader, RawIOBase
from re import S, findall
from threading import BoundedSemaphore, Lock
from time import monotonic, time
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import numpy as np

from . import answers
from .line import Full, Line
from .requests import Refused, understood
from .writer import Answer

LARGEST_BODY = 1 << 20                  # bytes
CONNECTIONS = 64                        # at once
PATIENCE = 30                           # seconds for a whole request to come, and for a client to take what is written
LONGEST_LINE = 300                      # characters that are logged of what a client asked, and of what it was told
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Gone(Exception):
    """Nobody waits for the answer any more: the client has left, or the server ends."""


class Server(ThreadingHTTPServer):
    """A Writer at an address. `rng` draws for requests that bring no seed; `say(line)` is told of every request."""
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, writer, *, host="127.0.0.1", port=8000, most_tokens=1024, places=16, rng=None, say=lambda line: None):
        self.writer, self.most_tokens, self.say = writer, min(most_tokens, writer.context), say
        self.rng, self.drawing = np.random.default_rng() if rng is None else rng, Lock()
        self.line, self.connections, self.ending = Line(places), BoundedSemaphore(CONNECTIONS), False
        self.local_only = host in LOOPBACK
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.page, self.policy = page()
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise ValueError(f"cannot listen on port {port} of {host}: {getattr(error, 'strerror', None) or error}; "
                             "choose another by --port (0: any that is free) or --host") from None

    def server_bind(self):
        """Without the name of this machine, which http.server would look up, for seconds where there is no network."""
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    @property
    def url(self):
        host, port = self.server_address[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def process_request(self, request, address):
        """Too many connections: one more is closed at once."""
        if not self.connections.acquire(blocking=False):
            return self.shutdown_request(request)
        super().process_request(request, address)

    def process_request_thread(self, request, address):
        try:
            super().process_request_thread(request, address)
        finally:
            self.connections.release()

    def handle_error(self, request, address):
        """A client that leaves in the middle is no error of ours; anything else is told in one line."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.say(f"error: {type(error).__name__}: {error}")

    def seed(self):
        with self.drawing:
            return int(self.rng.integers(2 ** 63))

    def end(self):
        """Answers that are being written end where they are, and no new one begins."""
        self.ending = True
        self.server_close()


def page():
    """(the page's bytes, the policy under which a browser shows it: its own script and style and this server, no more)"""
    source = (files(__package__) / "page.html").read_text(encoding="utf-8")
    allowed = {tag: " ".join(f"'sha256-{b64encode(sha256(part.encode()).digest()).decode()}'"
                             for part in findall(f"<{tag}>(.*?)</{tag}>", source, S)) for tag in ("script", "style")}
    return source.encode(), (f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; "
                             "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                             "frame-ancestors 'none'")


class Deadline(RawIOBase):
    """What comes from a socket, for as long as there is time left: a client that sends a byte now and then cannot stay."""

    def __init__(self, connection):
        self.connection, self.until = connection, monotonic() + PATIENCE

    def readable(self):
        return True

    def readinto(self, buffer):
        left = self.until - monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        try:
            return self.connection.recv_into(buffer)
        finally:
            self.connection.settimeout(PATIENCE)


class Handler(BaseHTTPRequestHandler):
    """One connection."""
    protocol_version, server_version, sys_version = "HTTP/1.1", "tinygrad-lm", ""

    def setup(self):
        super().setup()
        self.deadline = Deadline(self.connection)
        self.rfile = BufferedReader(self.deadline)

    def handle_one_request(self):
        self.begun, self.started = monotonic(), False                    # has the answer begun to go out?
        self.deadline.until = self.begun + PATIENCE
        super().handle_one_request()

    # ---- which request is it? ----------------------------------------------------------------------------------------

    def do_GET(self):
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True                                 # a body is not read, nor taken for the next request
        self.answer(self.get)

    def do_POST(self):
        self.answer(self.post)

    def answer(self, method):
        """Do it, and answer with an error in OpenAI's form where that raises."""
        self.begun = monotonic()
        try:
            self.check_who_asks()
            method(unquote(self.path.partition("?")[0]))
        except Refused as refused:
            self.refuse(refused)
        except Full as full:
            self.refuse(Refused(str(full), code="queue_full", status=429, headers={"Retry-After": str(full.seconds)}))
        except (Gone, OSError) as error:
            if isinstance(error, TimeoutError) and not self.started:
                return self.refuse(Refused("the request took too long to come", status=408))
            self.close_connection = True
            self.log("-", "the client has left")
        except (FloatingPointError, MemoryError, ValueError) as error:
            self.refuse(Refused(f"{error}" or "there is not enough memory", code="failed", status=500))

    def check_who_asks(self):
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if self.server.local_only and name_in(host) not in LOOPBACK:
            raise Refused(f"the Host {host!r} is not this machine's: talk to {self.server.url}", status=403,
                          code="wrong_host")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refused(f"pages of {origin!r} may not ask here", status=403, code="wrong_origin")

    def get(self, path):
        writer, models = self.server.writer, self.models()
        if path == "/":
            policy = {"Content-Security-Policy": self.server.policy}
            return self.send(200, self.server.page, "text/html; charset=utf-8", policy)
        if path == "/health":
            return self.send_json(200, {"status": "ok", "model": writer.name, "chat": writer.template is not None,
                                        "context": writer.context, "max_tokens": self.server.most_tokens,
                                        "waiting": self.server.line.waiting})
        if path == "/v1/models":
            return self.send_json(200, {"object": "list", "data": models})
        if path == f"/v1/models/{writer.name}":
            return self.send_json(200, models[0])
        self.not_here(path, KINDS, "POST")

    def post(self, path):
        if path not in KINDS:
            self.not_here(path, ("/", "/health", "/v1/models"), "GET")
        body, kind = self.body(), KINDS[path]
        asked = understood(body, self.server.writer, chat=kind is answers.Chat, most_tokens=self.server.most_tokens)
        shape = kind(uuid4().hex, int(time()), self.server.writer.name, asked)
        with self.server.line.turn(self.go_on):
            self.stream(asked, shape) if asked.stream else self.whole(asked, shape)

    def not_here(self, path, others, method):
        if path in others:
            raise Refused(f"{path} is asked by {method}, not by {self.command}", status=405, headers={"Allow": method})
        raise Refused(f"there is nothing at {path}; there are {', '.join([*KINDS, '/v1/models', '/health', '/'])}",
                      status=404)

    def models(self):
        return [{"id": self.server.writer.name, "object": "model", "created": 0, "owned_by": "tinygrad-lm"}]

    # ---- what comes --------------------------------------------------------------------------------------------------

    def body(self):
        """The JSON of the body, bounded in size and time."""
        if self.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused("the Content-Type must be application/json", status=415)
        raw = self.rfile.read(self.length())
        try:
            return json.loads(raw, parse_constant=not_json)
        except (ValueError, RecursionError) as error:
            raise Refused(f"the body is not JSON: {error}", code="invalid_json") from None

    def length(self):
        given, *others = self.headers.get_all("Content-Length", [""])
        if others or "Transfer-Encoding" in self.headers or not (given.isascii() and given.isdigit()):
            raise Refused("the body needs a Content-Length, and only one", status=411)
        size = float(given)                                              # int() refuses more than a few thousand digits
        if size > LARGEST_BODY:
            raise Refused(f"the body has {size:,.0f} bytes, and may have {LARGEST_BODY:,}", status=413)
        return int(size)

    def handle_expect_100(self):
        """A client that asks before it sends is told at once that its body is too long."""
        try:
            self.length()
        except Refused as refused:
            self.refuse(refused)
            return False
        return super().handle_expect_100()

    def go_on(self):
        """Called again and again while a client waits: raises Gone when it has closed its end, or the server ends."""
        if self.server.ending:
            raise Gone
        ready, _, _ = select.select([self.connection], [], [], 0)
        if ready and not self.connection.recv(1, socket.MSG_PEEK):
            raise Gone

    # ---- what goes ---------------------------------------------------------------------------------------------------

    def events(self, asked):
        """Yield (number of the answer, text, tokens, reason): pieces, and at an answer's end its reason."""
        writer = self.server.writer
        rng = np.random.default_rng(self.server.seed() if asked.seed is None else asked.seed % 2 ** 64)
        if asked.seed is not None:
            writer.reader.forget()           # sums in another order have other last digits: who asked before must not matter
        self.n_written = 0
        for i in range(asked.n):
            answer = Answer(writer, asked, rng, self.go_on)
            for text, tokens in answer:
                yield i, text, tokens, None
            self.n_written += len(answer.ids)
            yield i, "", [], answer.reason

    def whole(self, asked, shape):
        choices = [["", [], None] for _ in range(asked.n)]
        for i, text, tokens, reason in self.events(asked):
            choices[i] = [choices[i][0] + text, choices[i][1] + tokens, reason]
        self.send_json(200, shape.whole(choices, answers.usage(len(asked.ids), self.n_written)), self.tokens(asked))

    def stream(self, asked, shape):
        """Server-sent events: `data: ` and an object, a blank line; at the end the word DONE in brackets."""
        self.started, self.stalled, self.chunked = True, 0.0, self.request_version != "HTTP/1.0"
        self.send_response(200)
        self.headers_for("text/event-stream", {"Transfer-Encoding": "chunked"} if self.chunked else {"Connection": "close"})
        begun = set()
        for i, text, tokens, reason in self.events(asked):
            if i not in begun:
                begun.add(i)
                self.event(shape.first(i))
            self.event(shape.piece(i, text, tokens) if reason is None else shape.last(i, reason))
        if asked.include_usage:
            self.event(shape.chunk([], answers.usage(len(asked.ids), self.n_written)))
        self.event("[DONE]", last=True)
        self.log(200, self.tokens(asked))

    def event(self, thing, last=False):
        """Send an event. A client has PATIENCE to take all of them, for the others wait until it has."""
        data = b"data: " + (thing.encode() if isinstance(thing, str) else answers.as_json(thing)) + b"\n\n"
        if self.chunked:
            data = b"%x\r\n%s\r\n" % (len(data), data) + (b"0\r\n\r\n" if last else b"")
        before = monotonic()
        self.wfile.write(data)
        self.stalled += monotonic() - before
        if self.stalled > PATIENCE:
            raise TimeoutError

    def tokens(self, asked):
        return f"{len(asked.ids):,} + {self.n_written:,} tokens"

    def send_json(self, status, thing, told="", headers={}):
        self.send(status, answers.as_json(thing), "application/json", headers, told)

    def send(self, status, body, kind, headers={}, told=""):
        self.started = True
        self.send_response(status)
        self.headers_for(kind, {"Content-Length": str(len(body))} | headers)
        self.wfile.write(body)
        self.log(status, told)

    def headers_for(self, kind, headers):
        closing = {"Connection": "close"} if self.close_connection else {}
        always = {"Content-Type": kind, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        for name, value in (always | closing | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def refuse(self, refused):
        """The error as an answer; in the middle of a stream, as its last event. The connection closes. What was not read of
        the request is thrown away, for a client that still sends would not see the answer."""
        self.close_connection = True
        told = answers.error(str(refused), param=refused.param, code=refused.code, status=refused.status)
        try:
            if self.started:
                self.event(told, last=True)
                return self.log("-", str(refused))
            self.send_json(refused.status, told, str(refused), refused.headers)
            self.throw_away()
        except OSError:
            pass

    def throw_away(self):
        """Read what the client still sends, for a while."""
        self.connection.shutdown(socket.SHUT_WR)
        self.deadline.until = monotonic() + 2
        while self.rfile.read1(1 << 16):
            pass

    def send_error(self, code, message=None, explain=None):
        """What http.server refuses by itself, such as a line that is no request."""
        if not hasattr(self, "request_version") or self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.1"
        self.refuse(Refused(message or self.responses.get(code, ("refused",))[0], status=int(code)))

    def log(self, status, told=""):
        asked = f"{getattr(self, 'command', None) or '-'} {getattr(self, 'path', '-')}"
        line = f"{asked[:LONGEST_LINE]} {status} {monotonic() - self.begun:.1f} s {told[:LONGEST_LINE]}"
        self.server.say("".join(c if c.isprintable() else "?" for c in line.strip()))

    def log_message(self, *arguments):
        """http.server's own lines are not wanted."""


KINDS = {"/v1/chat/completions": answers.Chat, "/v1/completions": answers.Completion}


def name_in(host):
    """The name or address in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def not_json(name):
    raise ValueError(f"{name} is no number of JSON")
