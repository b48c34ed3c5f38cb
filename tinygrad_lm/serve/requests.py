"""What a client may ask for: the fields of OpenAI's requests, one by one. What matters and cannot be done is refused."""
from dataclasses import dataclass
from math import isfinite

MOST_ANSWERS, MOST_ALTERNATIVES, MOST_STOPS = 8, 20, 4

SAMPLING = {"model", "max_tokens", "temperature", "top_p", "n", "stop", "seed", "stream", "stream_options", "logprobs",
            "presence_penalty", "frequency_penalty"}
CHAT = SAMPLING | {"messages", "max_completion_tokens", "top_logprobs"}
COMPLETION = SAMPLING | {"prompt", "echo"}
# Who asks, and what is kept of it, changes no answer.
HARMLESS = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
# What would change the answer, why it is refused, and the values beside null that change nothing.
REFUSED = {"tools": ("it calls no tools", [[]]), "tool_choice": ("it calls no tools", ["none", "auto"]),
           "functions": ("it calls no functions", [[]]), "function_call": ("it calls no functions", ["none", "auto"]),
           "response_format": ("it writes text, and no grammar holds it to a form", [{"type": "text"}]),
           "logit_bias": ("scores are taken as the model gives them", [{}]),
           "modalities": ("it writes text only", [["text"]]), "audio": ("it writes text only", []),
           "suffix": ("it writes from left to right", [""]), "best_of": ("ask for several answers with n, and choose", [1]),
           "reasoning_effort": ("it answers at once", ["none"]), "prediction": ("it knows nothing beforehand", [])}


class Refused(ValueError):
    """A request that is not answered: the HTTP status, the field that is to blame, and headers that the answer has."""

    def __init__(self, message, *, param=None, code=None, status=400, headers=()):
        super().__init__(message)
        self.param, self.code, self.status, self.headers = param, code, status, dict(headers)


@dataclass(frozen=True)
class Asked:
    """A request as it was understood. `ids` is the text that is continued; `logprobs` whether probabilities are given, and
    `alternatives` how many of the likeliest tokens beside each."""
    ids: tuple
    chat: bool
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    n: int = 1
    stop: tuple = ()
    seed: int | None = None
    stream: bool = False
    include_usage: bool = False
    logprobs: bool = False
    alternatives: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    echo: str = ""


def understood(body, writer, *, chat, most_tokens):
    """The Asked of a request's JSON; Refused, with the field's name, where it cannot be answered as it is meant."""
    if not isinstance(body, dict):
        raise Refused("the body must be a JSON object, such as " + ('{"messages": [{"role": "user", "content": "Hello"}]}'
                                                                    if chat else '{"prompt": "Once"}'))
    refuse_what_is_not_done(body, CHAT if chat else COMPLETION)
    if body.get("model") not in (None, writer.name):
        raise Refused(f"the model {shown(body['model'])} does not exist here: this server has {writer.name!r}",
                      param="model", code="model_not_found", status=404)
    try:
        ids, text = chat_prompt(body, writer) if chat else completion_prompt(body, writer)
    except Refused:
        raise
    except ValueError as error:                                          # a character that the tokenizer does not know
        raise Refused(str(error), param="messages" if chat else "prompt") from None
    room = writer.context - len(ids)
    if room < 1:
        raise Refused(f"the prompt has {len(ids):,} tokens, and prompt and answer together have room for "
                      f"{writer.context:,}: shorten it", param="messages" if chat else "prompt",
                      code="context_length_exceeded")
    logprobs, alternatives = chat_logprobs(body) if chat else completion_logprobs(body)
    echo = text if flag(body, "echo") else ""
    if echo and logprobs:
        raise Refused("echo gives the prompt's text and not its probabilities: leave out echo or logprobs", param="echo")
    return Asked(tuple(ids), chat, max_tokens(body, most_tokens), temperature=number(body, "temperature", 1.0, 0, 2),
                 top_p=number(body, "top_p", 1.0, 0, 1, above=True), n=whole(body, "n", 1, 1, MOST_ANSWERS),
                 stop=stops(body), seed=whole(body, "seed", None, -2 ** 63, 2 ** 63 - 1), stream=flag(body, "stream"),
                 include_usage=include_usage(body), logprobs=logprobs, alternatives=alternatives,
                 presence_penalty=number(body, "presence_penalty", 0.0, -2, 2),
                 frequency_penalty=number(body, "frequency_penalty", 0.0, -2, 2), echo=echo)


def refuse_what_is_not_done(body, known):
    for name, value in body.items():
        if name in known | HARMLESS or value is None:
            continue
        if name not in REFUSED:
            raise Refused(f"there is no field {shown(name)} here; there are {', '.join(sorted(known))}", param=name[:60],
                          code="unknown_parameter")
        why, neutral = REFUSED[name]
        if value not in neutral:
            raise Refused(f"{name} is not supported: {why}", param=name, code="unsupported_parameter")


# ---- what is continued -----------------------------------------------------------------------------------------------

def chat_prompt(body, writer):
    """(ids, "") of the messages."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("messages is a list of at least one {\"role\": …, \"content\": …}", param="messages")
    return writer.chat_ids([message(m, f"messages[{i}]") for i, m in enumerate(messages)]), ""


def message(m, where):
    """(role, text) of one message; its content is a text, or a list of parts that are texts."""
    if not isinstance(m, dict):
        raise Refused(f"{where} is an object with role and content, not {shown(m)}", param=where)
    role = {"developer": "system"}.get(m.get("role"), m.get("role")) if isinstance(m.get("role"), str) else None
    if role not in ("system", "user", "assistant"):
        raise Refused(f"{where}.role is system, user or assistant, not {shown(m.get('role'))}", param=f"{where}.role")
    if m.get("tool_calls"):
        raise Refused(f"{where}.tool_calls is not supported: it calls no tools", param=f"{where}.tool_calls")
    content = m.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(isinstance(p, dict) and p.get("type") == "text"
                                              and isinstance(p.get("text"), str) for p in parts):
        raise Refused(f"{where}.content is a text, or a list of {{\"type\": \"text\", \"text\": …}}: nothing else is read",
                      param=f"{where}.content")
    return role, "".join(p["text"] for p in parts)


def completion_prompt(body, writer):
    """(ids, text) of the prompt: a text, a list with one text, or a list of ids."""
    prompt = body.get("prompt", "")
    prompt = "" if prompt is None else prompt
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return writer.prompt_ids(prompt), prompt
    if not isinstance(prompt, list) or not prompt or not all(type(i) is int for i in prompt):
        raise Refused("prompt is a text or a list of token ids; several prompts are several requests", param="prompt")
    V = len(writer.tokenizer)
    outside = [i for i in prompt if not 0 <= i < V]
    if outside:
        raise Refused(f"token id {outside[0]} is outside the vocabulary, 0 to {V - 1}", param="prompt")
    return prompt, writer.tokenizer.decode(prompt)


# ---- how it is continued ---------------------------------------------------------------------------------------------

def number(body, name, default, low, high, *, above=False):
    """A field that is a number from `low` (or above it) to `high`."""
    value = body.get(name)
    if value is None:
        return default
    if type(value) not in (int, float) or not isfinite(value) or not low <= value <= high or above and value == low:
        raise Refused(f"{name} is a number {'above' if above else 'from'} {low} {'and up ' if above else ''}to {high}, not "
                      f"{shown(value)}", param=name)
    return float(value)


def whole(body, name, default, low, high):
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:
        raise Refused(f"{name} is a whole number from {low} to {high}, not {shown(value)}", param=name)
    return value


def flag(body, name):
    value = body.get(name)
    if value not in (None, True, False) or type(value) in (int, float):
        raise Refused(f"{name} is true or false, not {shown(value)}", param=name)
    return bool(value)


def max_tokens(body, most):
    """The longest answer: what is asked for, the server's own limit if nothing is."""
    name = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    return whole(body, name, most, 1, most)


def stops(body):
    """The texts before which the answer ends."""
    stop = body.get("stop")
    stop = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or len(stop) > MOST_STOPS or not all(isinstance(s, str) and s for s in stop):
        raise Refused(f"stop is a text, or a list of at most {MOST_STOPS}, none of them empty", param="stop")
    return tuple(stop)


def include_usage(body):
    options = body.get("stream_options")
    if options is None:
        return False
    if not body.get("stream"):
        raise Refused("stream_options belongs to stream: true", param="stream_options")
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise Refused("stream_options is {\"include_usage\": true or false}", param="stream_options")
    return flag(options, "include_usage")


def chat_logprobs(body):
    """(are probabilities given, how many alternatives)"""
    wanted, n = flag(body, "logprobs"), whole(body, "top_logprobs", 0, 0, MOST_ALTERNATIVES)
    if n and not wanted:
        raise Refused("top_logprobs belongs to logprobs: true", param="top_logprobs")
    return wanted, n


def completion_logprobs(body):
    """The same of a completion, whose `logprobs` is a number."""
    n = whole(body, "logprobs", None, 0, MOST_ALTERNATIVES)
    return n is not None, n or 0


def shown(value):
    """A value for a sentence, cut where it is long."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
