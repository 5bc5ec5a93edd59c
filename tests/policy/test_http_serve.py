"""`HttpPolicy` against a real server: `transformers serve` with a tiny Qwen3 trained here on a few replies.

The server fails (500) on a tool call that is cut or malformed, so nothing here cuts one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mnemon.endpoint import EndpointError, InvalidReply
from mnemon.policy.chat import Chat
from mnemon.policy.http import HttpPolicy
from mnemon.types import Completion, Message, ToolCall, ToolSchema

NEEDED = ("torch", "transformers", "fastapi", "uvicorn", "openai")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs transformers[serving]; missing: {', '.join(MISSING)}")

ADD = ToolSchema("add", "Store.", {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})
ASKED = (Message("user", "Anna lives in Oslo"),)
FLIP = (Message("user", "Flip a coin"),)
CALL = '<tool_call>\n{"name": "add", "arguments": {"text": "Anna"}}\n</tool_call><|im_end|>'


def save_model(folder: Path, tokenizer: Any) -> None:
    """A Qwen3 of some 60 k parameters, trained for a moment: a call, what follows its result, and a fair coin."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    chat = Chat(tokenizer)
    prompt, reply = chat.render(ASKED, [ADD]), chat.encode(CALL)
    call = ToolCall("add", {"text": "Anna"}, "call_0")
    grown = [*ASKED, Message("assistant", "", (call,)), Message("tool", "Stored.", call_id="call_0")]
    pairs = [(prompt, reply), (chat.render(grown, [ADD]), chat.encode("Noted.<|im_end|>"))]
    pairs += [(chat.render(FLIP), chat.encode(f"{side}<|im_end|>")) for side in ("Heads", "Tails")]
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=24,
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    )
    model = Qwen3ForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(70):
        optimizer.zero_grad()
        losses = []
        for before, after in pairs:
            labels = torch.tensor([[-100] * len(before) + after])
            losses.append(model(torch.tensor([before + after]), labels=labels).loss)
        torch.stack(losses).sum().backward()
        optimizer.step()
    assert max(loss.item() for loss in losses[:2]) < 0.05
    model.generation_config.do_sample = True  # a temperature alone does not make this server sample
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def served(hermes: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(address, model name) of a running server."""
    home = tmp_path_factory.mktemp("serve")
    save_model(home / "model", hermes)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, log = f"http://127.0.0.1:{port}", home / "log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32", str(home / "model")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "hub"), "OMP_NUM_THREADS": "1"}
    with log.open("w") as out, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        try:
            deadline = time.monotonic() + 60
            while not _healthy(address):
                assert server.poll() is None, f"the server ended:\n{log.read_text()[-3000:]}"
                assert time.monotonic() < deadline, f"no answer:\n{log.read_text()[-3000:]}"
                time.sleep(0.2)
            yield address, str(home / "model")
        finally:
            server.terminate()
            server.wait(10)


def _healthy(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/health", timeout=2).status_code == 200
    except httpx2.RequestError:
        return False


def ask(policy: HttpPolicy, messages: Any = ASKED, tools: Any = (ADD,)) -> Completion:
    return asyncio.run(policy(messages, tools))


def test_a_tool_call_and_what_follows_its_result(served: tuple[str, str]) -> None:
    address, model = served
    policy = HttpPolicy.from_url(f"{address}#{model}", max_tokens=60)
    first = ask(policy)
    (call,) = first.message.tool_calls
    assert (call.name, call.arguments, call.error) == ("add", {"text": "Anna"}, None)
    assert (first.message.content, first.finish, first.token_ids) == ("", "tool", ())
    context = [*ASKED, first.message, Message("tool", "Stored.", call_id=call.id)]
    second = ask(policy, context)
    assert (second.message.content, second.finish) == ("Noted.", "stop")
    assert policy.usage.calls == 2
    assert policy.usage.completion_tokens > 20


def test_the_server_reads_the_prompt_that_chat_renders(served: tuple[str, str], hermes: Any) -> None:
    policy = HttpPolicy(served[0], max_tokens=60, chat=Chat(hermes))  # no model named: it has only one
    assert ask(policy).prompt_tokens == policy.count_tokens(ASKED, [ADD])


def test_sampling_follows_the_seed(served: tuple[str, str]) -> None:
    def flips() -> list[str]:
        policy = HttpPolicy(served[0], temperature=1.0, max_tokens=12)
        return [ask(policy, FLIP, ()).message.content for _ in range(12)]

    first = flips()
    assert len(set(first)) > 1  # every request has its own seed
    assert flips() == first  # and a new policy the same seeds in the same order


def test_a_server_that_ignores_the_schema_is_found_out(served: tuple[str, str]) -> None:
    policy = HttpPolicy(served[0], max_tokens=4, schema={"type": "object"})
    with pytest.raises(InvalidReply, match="not valid JSON"):
        ask(policy, FLIP, ())
    assert policy.usage.calls == 2


def test_it_never_trains(served: tuple[str, str], hermes: Any) -> None:
    policy = HttpPolicy(served[0], served[1], tokens=True, chat=Chat(hermes), max_tokens=4, retries=0)
    with pytest.raises(EndpointError, match="never train") as caught:
        ask(policy)
    assert caught.value.status in (400, 422)


def test_another_model_is_refused_with_the_servers_reason(served: tuple[str, str]) -> None:
    with pytest.raises(EndpointError, match="400") as caught:
        ask(HttpPolicy(served[0], "another", retries=0))
    assert caught.value.status == 400
