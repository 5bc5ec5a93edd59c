"""Chat templates and tool calls, in one place: messages to prompt ids, sampled ids to a message.

Two rules hold here and nowhere else needs to know them:

*Token-exact growth.* A sampled message carries its ids, and those ids, not its text, enter every later prompt:

    prompt(m₁ … mₖ, a, n₁ … nⱼ) = prompt(m₁ … mₖ) · ids(a) · glue(n₁ … nⱼ)

where `a` is the sampled assistant message and `glue` is what the chat template writes after *any* assistant message
(end of turn where it was not sampled, tool results, next generation prompt). Glue is the tail of a render in which a
marker stands in for `a`. So a context that only grew has a prompt that starts with the previous prompt and completion,
token for token. A message that was edited must lose its `token_ids`; it is then rendered from its content.

*Thinking is not the reply.* `Message.content` is the visible text: without ``<think>…</think>`` and without calls.
The thinking stays in `token_ids` (and in later prompts, unless ``keep_think=False``).

Two wire forms of calls: ``hermes`` (Qwen, Hermes: ``<tool_call>{"name": …, "arguments": …}</tool_call>``) and
``llama3`` (``{"name": …, "parameters": …}``, after an optional ``<|python_tag|>``, several separated by ``;``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from mnemon.types import JSON, Message, MnemonError, ToolCall, ToolSchema

Form = Literal["hermes", "llama3"]
CALL, END_CALL = "<tool_call>", "</tool_call>"
THINK, END_THINK = "<think>", "</think>"
PYTHON_TAG = "<|python_tag|>"
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>")
MARK = "\u27e8mnemon reply\u27e9"
CACHE_SIZE = 4096
ARGUMENT_KEYS: Mapping[Form, tuple[str, ...]] = {"hermes": ("arguments",), "llama3": ("parameters", "arguments")}


# ── tool calls as text ───────────────────────────────────────────────────────────────────────────────────────────────


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def render_call(call: ToolCall, form: Form = "hermes") -> str:
    """The text of one call as a model writes it; the inverse of `parse`."""
    key = ARGUMENT_KEYS[form][0]
    text = json.dumps({"name": call.name, key: dict(call.arguments)}, ensure_ascii=False)
    return f"{CALL}\n{text}\n{END_CALL}" if form == "hermes" else text


def render_calls(calls: Iterable[ToolCall], form: Form = "hermes") -> str:
    """Several calls as a model writes them in one reply."""
    return ("\n" if form == "hermes" else "; ").join(render_call(call, form) for call in calls)


def parse(text: str, form: Form = "hermes") -> tuple[str, tuple[ToolCall, ...]]:
    """Split a reply into (visible content, calls).

    Thinking is left out; an unclosed ``<think>`` swallows the rest, and a ``</think>`` before any other tag ends a
    think that the prompt had opened. Calls inside a think are thoughts, not calls.

    Text that cannot be read as a call becomes a `ToolCall` with `error` and `raw` set, never an exception: to the agent
    it is a failed call. Strict where leniency would be exploited: one JSON object with a name and an arguments object
    (or a JSON string of one), nothing beside it.
    """
    return _parse_hermes(text) if form == "hermes" else _parse_llama3(text)


def _read_call(obj: Any, form: Form, raw: str, index: int) -> ToolCall:
    """One decoded JSON value as a call, or a call with `error`."""

    def bad(why: str, name: str = "") -> ToolCall:
        return ToolCall(name=name, id=f"call_{index}", error=why, raw=raw)

    if not isinstance(obj, dict):
        return bad(f"a call is a JSON object, not {type(obj).__name__}")
    name = obj.get("name")
    if not isinstance(name, str) or not name:
        return bad('the call has no "name"')
    keys = ARGUMENT_KEYS[form]
    arguments: Any = next((obj[key] for key in keys if key in obj), {})
    if isinstance(arguments, str):
        try:
            arguments = _DECODER.decode(arguments)
        except (ValueError, RecursionError):
            return bad(f'"{keys[0]}" is a string that holds no JSON object', name)
    if not isinstance(arguments, dict):
        return bad(f'"{keys[0]}" must be a JSON object', name)
    if "\\u" in raw:  # an escaped lone surrogate decodes, but no tokenizer, file or database can hold it
        try:
            json.dumps([name, arguments], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return bad("the call holds text that is not valid Unicode")
    return ToolCall(name=name, arguments=arguments, id=f"call_{index}")


def _decode_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value at `start` (white space skipped) and where it ends; raises ValueError or RecursionError."""
    while start < len(text) and text[start].isspace():
        start += 1
    return _DECODER.raw_decode(text, start)


def _hermes_call(text: str, start: int, index: int) -> tuple[ToolCall, int]:
    """Read the call whose body begins at `start`; return it and the position behind its closing tag."""
    try:
        obj, end = _decode_at(text, start)
        why = ""
    except (ValueError, RecursionError) as error:
        obj, end, why = None, start, f"the call is not valid JSON ({error})"
    closing = text.find(END_CALL, end)
    stop = len(text) if closing < 0 else closing
    if closing < 0:
        why = why or f"the call is not closed by {END_CALL}"
    elif not why and text[end:closing].strip():
        why = f"there is text between the call's JSON and {END_CALL}"
    raw = text[start:stop].strip()
    after = len(text) if closing < 0 else closing + len(END_CALL)
    if why:
        return ToolCall(name="", id=f"call_{index}", error=why, raw=raw), after
    return _read_call(obj, "hermes", raw, index), after


def _after_think(text: str) -> int:
    """Where the visible text begins when the prompt had opened the think, else 0: behind a leading ``</think>``."""
    end = text.find(END_THINK)
    opened = text.lstrip().startswith("{") or any(0 <= text.find(tag) < end for tag in (THINK, CALL, PYTHON_TAG))
    return 0 if end < 0 or opened else end + len(END_THINK)


def _parse_hermes(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    position = _after_think(text)
    content: list[str] = []
    calls: list[ToolCall] = []
    while position < len(text):
        call, think = text.find(CALL, position), text.find(THINK, position)
        if call < 0 and think < 0:
            content.append(text[position:])
            break
        if call < 0 or 0 <= think < call:
            content.append(text[position:think])
            end = text.find(END_THINK, think)
            position = len(text) if end < 0 else end + len(END_THINK)
        else:
            content.append(text[position:call])
            read, position = _hermes_call(text, call + len(CALL), len(calls))
            calls.append(read)
    return "".join(content).strip(), tuple(calls)


def _parse_llama3(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    visible = text[_after_think(text) :].strip()
    while visible.startswith(THINK):
        end = visible.find(END_THINK)
        visible = "" if end < 0 else visible[end + len(END_THINK) :].strip()
    content, tag, body = visible.partition(PYTHON_TAG)
    if not tag:
        if not (visible.startswith("{") and '"name"' in visible):
            return visible, ()
        content, body = "", visible
    calls: list[ToolCall] = []
    position = 0
    while True:
        try:
            obj, end = _decode_at(body, position)
        except (ValueError, RecursionError) as error:
            why = f"the call is not valid JSON ({error})"
            calls.append(ToolCall(name="", id=f"call_{len(calls)}", error=why, raw=body[position:].strip()))
            break
        calls.append(_read_call(obj, "llama3", body[position:end].strip(), len(calls)))
        rest = body[end:].lstrip()
        if not rest.strip():
            break
        if not rest.startswith(";"):
            calls.append(ToolCall(name="", id=f"call_{len(calls)}", error="text after the call", raw=rest.strip()))
            break
        if not rest[1:].strip():
            break
        position = len(body) - len(rest) + 1
    return content.strip(), tuple(calls)


# ── messages as prompt ids ───────────────────────────────────────────────────────────────────────────────────────────


def to_openai(message: Message) -> JSON:
    """A message as the dictionary that chat templates read (OpenAI form; arguments as an object)."""
    content = message.content
    calls = []
    for index, call in enumerate(message.tool_calls):
        if call.error is not None:  # shown back as it was written: it has no valid structured form
            content = f"{content}\n{call.raw}" if content else call.raw
            continue
        function = {"name": call.name, "arguments": dict(call.arguments)}
        calls.append({"id": call.id or f"call_{index}", "type": "function", "function": function})
    out: JSON = {"role": message.role, "content": content}
    if calls:
        out["tool_calls"] = calls
    if message.role == "tool":
        out["tool_call_id"] = message.call_id
        if message.name:
            out["name"] = message.name
    return out


def _key(message: Message) -> tuple[Any, ...]:
    """What of a message reaches the template, hashable."""
    calls = repr(message.tool_calls) if message.tool_calls else ""
    return (message.role, message.content, calls, message.call_id, message.name)


class Chat:
    """A tokenizer's chat template, with token-exact growth and the tool calls of its family.

    `tokenizer` is a Hugging Face tokenizer. `form` ``"auto"`` reads the family from the template. `keep_think=True`
    keeps the thinking of earlier turns in later prompts, so that prompts only grow; ``False`` drops the thinking of
    replies before the last user message (as Qwen3's template does): such a reply is rendered from its content, and the
    prompt then is a new row. `template_kwargs` go to the template (``enable_thinking``, ``date_string`` …; a template
    that prints today's date should be given a fixed one). `stop_ids` adds ids that end a reply, such as those of a
    model's generation config.
    """

    def __init__(
        self,
        tokenizer: Any,
        form: Form | Literal["auto"] = "auto",
        *,
        keep_think: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
        stop_ids: Iterable[int] = (),
    ) -> None:
        template = getattr(tokenizer, "chat_template", None)
        if not template:
            where = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
            raise MnemonError(
                f"the tokenizer {where!r} has no chat template, so messages cannot become a prompt. Use an "
                "instruct model, or set tokenizer.chat_template to the template its model was trained with."
            )
        self.tokenizer = tokenizer
        self.template: str = json.dumps(template, sort_keys=True) if isinstance(template, dict) else template
        self.keep_think = keep_think
        self.template_kwargs = dict(template_kwargs or {})
        if form == "auto":
            llama = CALL not in self.template and "<|start_header_id|>" in self.template
            form = "llama3" if llama else "hermes"
        if form not in ARGUMENT_KEYS:
            raise MnemonError(f"unknown form of tool calls {form!r}: use 'auto', 'hermes' or 'llama3'")
        self.form: Form = form
        self._cache: dict[Any, tuple[int, ...]] = {}
        self._tools: dict[tuple[int, ...], tuple[tuple[ToolSchema, ...], str, list[JSON]]] = {}
        probe = [{"role": "user", "content": "."}]
        prompt = self._text(probe, (), True)
        self._opens_think = prompt.rstrip().endswith(THINK)
        self.stop_ids: frozenset[int] = frozenset(stop_ids) | self._find_stop_ids()

    @property
    def fingerprint(self) -> str:
        """16 hex digits: template, form, settings and vocabulary size. Equal fingerprints build equal prompts."""
        settings = [self.template, self.form, self.keep_think, self.template_kwargs, len(self.tokenizer)]
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def render(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema] = (), generation: bool = True
    ) -> list[int]:
        """Prompt ids [P] of a context; `generation` ends it with the opening of an assistant turn.

        Assistant messages with `token_ids` enter as those ids (see the module's first rule).
        """
        tools = tuple(tools)
        sampled = self._sampled(messages)
        bounds = [*sampled, len(messages)]
        ids = list(self._head(messages[: bounds[0]], tools, generation or bool(sampled)))
        for at, until in zip(sampled, bounds[1:], strict=True):
            own = messages[at].token_ids or ()
            glue = self._glue(messages[at + 1 : until], tools, generation or until < len(messages))
            ended = bool(own) and own[-1] in self.stop_ids and bool(glue) and glue[0] in self.stop_ids
            ids += own
            ids += glue[1:] if ended else glue
        return ids

    def count_tokens(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> int:
        """Length of the prompt in tokens."""
        return len(self.render(messages, tools))

    def parse(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """`parse` in this template's form, aware of a think that the generation prompt has opened."""
        return parse(THINK + text if self._opens_think else text, self.form)

    def message(self, token_ids: Sequence[int]) -> Message:
        """The assistant message that sampled ids [T] say; it keeps the ids, the stop token included."""
        ids = tuple(token_ids)
        said = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        content, calls = self.parse(self.decode(said))
        return Message(role="assistant", content=content, tool_calls=calls, kind="reply", token_ids=ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of ids, special tokens included. For tools and logs: it is never encoded again."""
        decode = self.tokenizer.decode
        text: str = decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def encode(self, text: str) -> list[int]:
        """Ids of text, nothing added; special tokens written out in the text are recognised."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def forget(self) -> None:
        """Empty the cache of rendered prompts."""
        self._cache.clear()

    # ── the parts of a prompt ──

    def _sampled(self, messages: Sequence[Message]) -> list[int]:
        """Positions of the assistant messages that enter as their own ids."""
        found = [i for i, m in enumerate(messages) if m.role == "assistant" and m.token_ids is not None]
        if self.keep_think or not found:
            return found
        last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
        return [i for i in found if i > last_user or not self._thinks(messages[i])]

    def _thinks(self, message: Message) -> bool:
        text = self.decode(message.token_ids or ())
        return self._opens_think or THINK in text or END_THINK in text

    def _head(self, messages: Sequence[Message], tools: tuple[ToolSchema, ...], generation: bool) -> tuple[int, ...]:
        """Ids of the messages before the first sampled one."""
        key = (tuple(map(_key, messages)), self._schemas(tools)[0], generation)
        if key not in self._cache:
            text = self._text([to_openai(m) for m in messages], tools, generation)
            self._remember(key, self.encode(text))
        return self._cache[key]

    def _glue(self, messages: Sequence[Message], tools: tuple[ToolSchema, ...], generation: bool) -> tuple[int, ...]:
        """Ids that follow a sampled message: its end of turn, `messages`, the next generation prompt."""
        key = ("glue", tuple(map(_key, messages)), self._schemas(tools)[0], generation)
        if key not in self._cache:
            chat = [{"role": "user", "content": "."}, {"role": "assistant", "content": MARK}]
            text = self._text([*chat, *map(to_openai, messages)], tools, generation)
            _, found, tail = text.partition(MARK)
            if not found:
                raise MnemonError(
                    "the chat template does not print an assistant's content, so prompts cannot grow by sampled tokens"
                )
            self._remember(key, self.encode(tail))
        return self._cache[key]

    def _remember(self, key: Any, ids: list[int]) -> None:
        if len(self._cache) >= CACHE_SIZE:
            self._cache.clear()
        self._cache[key] = tuple(ids)

    def _schemas(self, tools: tuple[ToolSchema, ...]) -> tuple[str, list[JSON]]:
        """The tools as a key of the cache and in OpenAI form. The schemas are kept, so that no identity is reused."""
        ids = tuple(map(id, tools))
        if ids not in self._tools:
            if len(self._tools) >= CACHE_SIZE:
                self._tools.clear()
            schemas = [tool.as_openai() for tool in tools]
            self._tools[ids] = (tools, json.dumps(schemas), schemas)
        return self._tools[ids][1:]

    def _text(self, messages: list[JSON], tools: tuple[ToolSchema, ...], generation: bool) -> str:
        from jinja2.exceptions import TemplateError

        if tools and "tools" not in self.template:
            raise MnemonError(
                "tools were given, but the chat template has no place for them: the model would never see them. Use a "
                "model whose template knows tools (Qwen2.5, Qwen3, Llama 3.1 …), or set tokenizer.chat_template. Where "
                "the model was trained to know its tools unseen, say so in a comment there: {# tools are not shown #}."
            )
        schemas = self._schemas(tools)[1] if tools else None
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, tools=schemas, add_generation_prompt=generation, tokenize=False, **self.template_kwargs
            )
        except (TemplateError, ValueError) as error:
            roles = ", ".join(str(m["role"]) for m in messages) or "none"
            raise MnemonError(
                f"the chat template refused this context (roles: {roles}): {error}. Most templates want a user "
                "message, and roles in the order they were trained with."
            ) from error
        return text

    def _find_stop_ids(self) -> frozenset[int]:
        """End-of-sequence ids, the known ends of turn in the vocabulary, and the one that this template writes."""
        eos = self.tokenizer.eos_token_id
        ids = set(eos if isinstance(eos, (list, tuple)) else [] if eos is None else [eos])
        special = self.tokenizer.get_added_vocab()
        ids |= {special[name] for name in TURN_ENDS if name in special}
        glue = self._glue((), (), False)
        if glue and glue[0] in special.values():
            ids.add(glue[0])
        return frozenset(ids)
