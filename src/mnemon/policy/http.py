"""A policy over any OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, Ollama, `transformers serve`, a hosted model.

By default it speaks Chat Completions and sends standard fields only, so that it works everywhere; such replies carry no
token ids, and can be evaluated and served, never trained on. With ``tokens=True`` it sends token-id prompts to
``/v1/completions`` of a vLLM server and gets back the exact sampled ids and their log-probs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from mnemon.endpoint import Endpoint, EndpointError, InvalidReply, Usage, reported, split_url
from mnemon.policy.base import EPISODE, EpisodeKey, request_seed
from mnemon.policy.chat import Chat, parse, render_calls
from mnemon.policy.schema import check_schema, mismatch, read_json
from mnemon.types import JSON, Completion, Finish, Message, MnemonError, ToolCall, ToolSchema

FINISH: Mapping[str, Finish] = {
    "length": "length",
    "tool_calls": "tool",
    "content_filter": "aborted",
    "abort": "aborted",
}
NEVER_TRAINS = (
    "this endpoint can evaluate and serve, never train: it does not return the sampled token ids and their log-probs. "
    "vLLM does (start it with --logprobs-mode processed_logprobs); or leave out tokens=True"
)
EXACT: JSON = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""What keeps a server from reshaping the distribution with the defaults of a model's generation config."""


class HttpPolicy:
    """``await policy(messages, tools)`` over an OpenAI-compatible server.

    base_url: with or without ``/v1``; `from_url` takes the model along, as ``http://host:8000/v1#model-name``.
    model: the name the server knows it by; None leaves the field out (servers with one model allow that).
    api_key: else the environment's ``MNEMON_API_KEY``, else ``OPENAI_API_KEY``; ``""`` sends none.
    temperature, max_tokens: of the reply. Above temperature 0 every request has its own seed, derived from the episode.
    timeout (seconds), retries, concurrency (calls in flight), backoff (seconds): see `mnemon.endpoint.Endpoint`.
    extra_body: merged over every request; a value None removes that field (``{"max_tokens": None}`` for servers that
        want ``max_completion_tokens``).
    schema: a JSON schema that the reply must fit. It is sent as ``response_format``, which some servers ignore: so the
        reply is checked, an unfit one is sent back once with the reason, and a second one raises `InvalidReply`.
        The message's content then is the bare JSON text.
    tokens, chat: token ids in and out over ``/v1/completions``, the prompt rendered by `chat`; an `EndpointError` where
        the server returns no ids or log-probs. `chat` alone serves to count the tokens of a context.
    transport: replaces the network, for tests.

    `usage` counts calls, retries, tokens and seconds; `policy_version` is stamped on completions: whoever pushes new
    weights to the server counts it up. Raises `EndpointError` for whatever the server did not do, with its HTTP status.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        temperature: float = 0.0,
        max_tokens: int = 1024,
        timeout: float = 60.0,
        retries: int = 4,
        concurrency: int = 8,
        backoff: float = 0.5,
        extra_body: Mapping[str, Any] | None = None,
        schema: JSON | None = None,
        tokens: bool = False,
        chat: Chat | None = None,
        transport: httpx2.MockTransport | None = None,
    ) -> None:
        if schema is not None:
            check_schema(schema)
        if tokens and chat is None:
            raise MnemonError("HttpPolicy(tokens=True) renders prompts itself: give chat=Chat(tokenizer of the model)")
        if tokens and schema is not None:
            raise MnemonError(
                "HttpPolicy: a reply forced into a schema is no sample of the model; drop schema or tokens"
            )
        self.endpoint = Endpoint(base_url, api_key, timeout, retries, concurrency, backoff, transport)
        self.model = model
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.extra_body = dict(extra_body or {})
        self.schema = schema
        self.tokens = tokens
        self.chat = chat
        self.policy_version = 0
        self._tool_choice: str | None = None
        self._outside = EpisodeKey(task="http")

    @classmethod
    def from_url(cls, url: str, **options: Any) -> HttpPolicy:
        """One string for a command line: ``http://host:8000/v1#model-name``; the model may be left out."""
        base, model = split_url(url)
        return cls(base, model, **options)

    def __repr__(self) -> str:
        return f"HttpPolicy({self.endpoint.url!r}, {self.model!r}, temperature={self.temperature})"

    @property
    def usage(self) -> Usage:
        """What this policy has cost so far."""
        return self.endpoint.usage

    @property
    def count_tokens(self) -> Any:
        """``count_tokens(messages, tools)`` when a `chat` was given, else None."""
        return self.chat.count_tokens if self.chat else None

    @property
    def fingerprint(self) -> str:
        """16 hex digits: server, model, settings and version. Equal fingerprints give equal greedy replies."""
        settings = [self.endpoint.url, self.model, self.temperature, self.max_tokens, self.extra_body, self.schema]
        settings += [self.tokens, self.chat.fingerprint if self.chat else None, self.policy_version]
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        """Ask the server for one reply."""
        if self.tokens and self.chat is not None:
            return await self._sample(self.chat, messages, tools)
        if self.schema is not None:
            return await self._fit(self.schema, messages, tools)
        return await self._converse(to_wire(messages), tools)

    # ── chat completions ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _converse(self, wire: list[JSON], tools: Sequence[ToolSchema]) -> Completion:
        version = self.policy_version
        body: JSON = {"messages": wire} | self._sampling()
        if tools:  # an empty list is refused by some servers
            body |= {"tools": [tool.as_openai() for tool in tools], "tool_choice": self._tool_choice}
        if self.schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "reply", "schema": self.schema}}
        try:
            reply = await self._post("/chat/completions", body)
        except EndpointError as error:
            if not tools or self._tool_choice or "--enable-auto-tool-choice" not in str(error):
                raise
            # A vLLM server that was started without a tool parser: it still shows the tools, and we read the calls.
            self._tool_choice = "none"
            reply = await self._post("/chat/completions", body | {"tool_choice": "none"})
        message, finish = from_wire(self._choice(reply))
        return Completion(
            message, finish=finish, policy_version=version, prompt_tokens=reported(reply, "prompt_tokens")
        )

    async def _fit(self, schema: JSON, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Completion:
        """A reply that fits `schema`, with one repair."""
        if tools:
            raise MnemonError("HttpPolicy: a reply that must fit a schema cannot be a tool call; drop schema or tools")
        wire = to_wire(messages)
        completion = await self._converse(wire, ())
        value, why = _read_fitting(completion, schema)
        if why:
            complaint = f"That reply cannot be used: {why}. Reply again with nothing but JSON that fits this schema:\n"
            said = {"role": "assistant", "content": completion.message.content}
            again = {"role": "user", "content": complaint + json.dumps(schema, ensure_ascii=False)}
            completion = await self._converse([*wire, said, again], ())
            value, why = _read_fitting(completion, schema)
        if why:
            text = completion.message.content[:200]
            raise InvalidReply(
                f"{self.endpoint.url}: the reply does not fit the JSON schema, also after it was told so: {why}; "
                f"it said {text!r}",
                200,
            )
        return Completion(
            Message("assistant", value, kind="reply"),
            finish=completion.finish,
            policy_version=completion.policy_version,
            prompt_tokens=completion.prompt_tokens,
        )

    # ── token ids in and out ─────────────────────────────────────────────────────────────────────────────────────────

    async def _sample(self, chat: Chat, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Completion:
        version = self.policy_version
        prompt = chat.render(messages, tools)
        body = {"prompt": prompt, "logprobs": 0, "return_token_ids": True, "stop_token_ids": sorted(chat.stop_ids)}
        try:
            reply = await self._post("/completions", body | self._sampling() | EXACT)
        except EndpointError as error:
            if error.status not in (400, 404, 422):
                raise
            raise EndpointError(f"{error}. If it refused the token ids: {NEVER_TRAINS}", error.status) from error
        choice = self._choice(reply)
        token_ids = choice.get("token_ids")
        sent = choice.get("prompt_token_ids") or reply.get("prompt_token_ids")
        logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
        if not (isinstance(token_ids, list) and isinstance(sent, list) and isinstance(logprobs, list)):
            raise EndpointError(f"{self.endpoint.url}: {NEVER_TRAINS}", 200)
        if sent != prompt:
            raise EndpointError(
                f"{self.endpoint.url}: the server read {len(sent)} prompt tokens, not the {len(prompt)} that were sent "
                "(was the prompt cut?); such a completion cannot be trained on",
                200,
            )
        finite = all(isinstance(p, int | float) and math.isfinite(p) for p in logprobs)
        if len(logprobs) != len(token_ids) or not finite:
            raise EndpointError(
                f"{self.endpoint.url}: {len(logprobs)} log-probs for {len(token_ids)} sampled tokens, or some are not "
                "numbers; such a completion cannot be trained on",
                200,
            )
        message = chat.message(token_ids)
        return Completion(
            message,
            tuple(prompt),
            tuple(token_ids),
            tuple(map(float, logprobs)),
            _finish(choice),
            version,
            len(prompt),
        )

    # ── what both share ──────────────────────────────────────────────────────────────────────────────────────────────

    def _sampling(self) -> JSON:
        """Temperature, length, and the request's own seed. The episode's step counter advances with every request."""
        seed = request_seed((EPISODE.get() or self._outside).next()) % 2**31  # servers differ in what fits
        sampled = self.tokens or self.temperature > 0
        return {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": seed if sampled else None}

    async def _post(self, path: str, body: JSON) -> JSON:
        merged = {"model": self.model} | body | self.extra_body
        return await self.endpoint.post(path, {name: value for name, value in merged.items() if value is not None})

    def _choice(self, reply: JSON) -> JSON:
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise EndpointError(f"{self.endpoint.url}: the reply holds no choices: {json.dumps(reply)[:200]}", 200)
        return dict(choices[0])


# ── messages to and from the wire ────────────────────────────────────────────────────────────────────────────────────


def to_wire(messages: Sequence[Message]) -> list[JSON]:
    """Messages as Chat Completions wants them.

    Servers insist that every call has its result and every result its call, while a context may have lost either (cut
    to a window, filtered), so: a call without a result, or one that could not be read, is sent as the text it was; a
    result without its call as a user message. Calls are numbered ``call00000`` … (nine letters and digits: the
    strictest servers want that), so equal contexts are equal on the wire.
    """
    wire: list[JSON] = []
    count = 0
    for at, message in enumerate(messages):
        if message.role == "tool":
            continue  # taken along with the calls before it
        results = _results_after(messages, at)
        entry: JSON = {"role": message.role, "content": message.content}
        structured, plain = [], []
        answers: list[JSON] = []
        for call in message.tool_calls:
            result = _take(results, call) if message.role == "assistant" else None
            if call.error is not None or result is None:
                plain.append(call.raw if call.error is not None else render_calls([call]))
                if result is not None:
                    answers.append({"role": "user", "content": result.content})
                continue
            arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
            function = {"name": call.name, "arguments": arguments}
            structured.append({"id": f"call{count:05d}", "type": "function", "function": function})
            answers.append({"role": "tool", "tool_call_id": f"call{count:05d}", "content": result.content})
            count += 1
        if plain:
            entry["content"] = "\n".join(text for text in (message.content, *plain) if text)
        if structured:
            entry["tool_calls"] = structured
        answers += [{"role": "user", "content": result.content} for result in results]
        wire += [entry, *sorted(answers, key=lambda answer: answer["role"] != "tool")]
    lost = _results_after(messages, -1)
    return [{"role": "user", "content": result.content} for result in lost] + wire


def _results_after(messages: Sequence[Message], at: int) -> list[Message]:
    """The tool results between message `at` and the next message that is none."""
    until = next((i for i in range(at + 1, len(messages)) if messages[i].role != "tool"), len(messages))
    return list(messages[at + 1 : until])


def _take(results: list[Message], call: ToolCall) -> Message | None:
    """Take the result of `call` out of `results`: by its id, else (ids missing on a side) by the order."""
    for index, result in enumerate(results):
        if result.call_id == call.id or not (result.call_id and call.id):
            return results.pop(index)
    return None


def from_wire(choice: JSON) -> tuple[Message, Finish]:
    """The message of a chat choice. Calls come structured, or as Hermes text in the content; thinking is left out."""
    said = choice.get("message")
    said = said if isinstance(said, dict) else {}
    content = said.get("content") or said.get("refusal") or ""
    if isinstance(content, list):  # content in parts
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise EndpointError(f"the reply's content is a JSON {type(content).__name__}, neither text nor parts", 200)
    content, written = parse(content)
    structured = said.get("tool_calls") or ()
    if not isinstance(structured, list | tuple):
        raise EndpointError(f"the reply's tool_calls are a JSON {type(structured).__name__}, not a list", 200)
    calls = tuple(_read_call(call, index) for index, call in enumerate(structured)) or written
    return Message("assistant", content, calls, kind="reply"), _finish(choice)


def _read_call(call: Any, index: int) -> ToolCall:
    """One structured call; arguments that are no JSON object make a `ToolCall` with `error`, as `chat.parse` does."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return ToolCall("", id=f"call_{index}", error='the call has no "name"', raw=json.dumps(call))
    name, raw = function["name"], function.get("arguments")
    call_id = call.get("id") or f"call_{index}"
    if isinstance(raw, dict):
        return ToolCall(name, raw, call_id)
    raw = raw if isinstance(raw, str) else ""
    try:
        arguments = json.loads(raw or "{}")
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()  # no NaN, no half characters
    except (ValueError, RecursionError) as error:
        return ToolCall(name, id=call_id, error=f"the arguments are not valid JSON ({error})", raw=raw)
    if not isinstance(arguments, dict):
        return ToolCall(name, id=call_id, error="the arguments must be a JSON object", raw=raw)
    return ToolCall(name, arguments, call_id)


def _finish(choice: JSON) -> Finish:
    return FINISH.get(choice.get("finish_reason") or "", "stop")


def _read_fitting(completion: Completion, schema: JSON) -> tuple[str, str]:
    """(the JSON text of a reply, why it does not fit or ``""``)."""
    content = completion.message.content
    try:
        value, text = read_json(content)
    except ValueError as error:
        cut = " (it was cut at max_tokens)" if completion.finish == "length" else ""
        return "", f"it is not valid JSON: {error}{cut}"
    return text, mismatch(value, schema) or ""
