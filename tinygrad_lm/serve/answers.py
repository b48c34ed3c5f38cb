"""How answers look: OpenAI's objects, whole or in the chunks of a stream, of conversations and of texts that go on.

Both kinds answer to the same few methods, so that the server need not know which one it serves.
"""
import json

LOWEST = -9999.0                        # what stands for log 0, which JSON cannot write


def as_json(thing):
    """UTF-8, readable; half a surrogate pair, which UTF-8 cannot hold, as its escape."""
    return json.dumps(thing, ensure_ascii=False).encode("utf-8", "backslashreplace")


def error(message, *, param=None, code=None, status=400):
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def usage(n_prompt, n_written):
    return {"prompt_tokens": n_prompt, "completion_tokens": n_written, "total_tokens": n_prompt + n_written}


def named(token, logprob):
    return {"token": token.decode("utf-8", "replace"), "logprob": max(logprob, LOWEST), "bytes": list(token)}


def spelt(token):
    """A token as text, of which no two are alike: part of a character, which is no text, is written in hexadecimal."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


class Chat:
    """Answers of an assistant."""

    def __init__(self, id, created, model, asked):
        self.asked, self.about = asked, {"id": f"chatcmpl-{id}", "created": created, "model": model}

    def whole(self, choices, used):
        """All answers, [(text, tokens, reason)], as one object."""
        made = [{"index": i, "message": {"role": "assistant", "content": text, "refusal": None},
                 "logprobs": self.logprobs(tokens), "finish_reason": reason}
                for i, (text, tokens, reason) in enumerate(choices)]
        return self.about | {"object": "chat.completion", "choices": made, "usage": used}

    def chunk(self, choices, used=None):
        told = {"usage": used} if self.asked.include_usage else {}
        return self.about | {"object": "chat.completion.chunk", "choices": choices} | told

    def first(self, i):
        return self.chunk([self.part(i, {"role": "assistant", "content": ""})])

    def piece(self, i, text, tokens):
        return self.chunk([self.part(i, {"content": text}, logprobs=self.logprobs(tokens))])

    def last(self, i, reason):
        return self.chunk([self.part(i, {}, reason=reason)])

    def part(self, i, delta, *, logprobs=None, reason=None):
        return {"index": i, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def logprobs(self, tokens):
        if not self.asked.logprobs:
            return None
        told = [named(t.text, t.logprob) | {"top_logprobs": [named(*other) for other in t.others]} for t in tokens]
        return {"content": told, "refusal": None}


class Completion:
    """Texts that go on."""

    def __init__(self, id, created, model, asked):
        self.asked = asked
        self.about = {"id": f"cmpl-{id}", "object": "text_completion", "created": created, "model": model}

    def whole(self, choices, used):
        """All texts, [(text, tokens, reason)], as one object."""
        made = [self.choice(i, self.asked.echo + text, tokens, reason) for i, (text, tokens, reason) in enumerate(choices)]
        return self.about | {"choices": made, "usage": used}

    def chunk(self, choices, used=None):
        return self.about | {"choices": choices} | ({"usage": used} if self.asked.include_usage else {})

    def choice(self, i, text, tokens, reason=None):
        return {"index": i, "text": text, "logprobs": self.logprobs(tokens), "finish_reason": reason}

    def first(self, i):
        return self.chunk([self.choice(i, self.asked.echo, [])])

    def piece(self, i, text, tokens):
        return self.chunk([self.choice(i, text, tokens)])

    def last(self, i, reason):
        return self.chunk([self.choice(i, "", [], reason)])

    def logprobs(self, tokens):
        if not self.asked.logprobs:
            return None
        return {"tokens": [spelt(t.text) for t in tokens], "token_logprobs": [max(t.logprob, LOWEST) for t in tokens],
                "top_logprobs": [{spelt(text): max(logprob, LOWEST) for text, logprob in t.others} for t in tokens],
                "text_offset": [t.start for t in tokens]}
