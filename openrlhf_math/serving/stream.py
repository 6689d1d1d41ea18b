"""A response as server-sent events: `stream: true`.

There is no answer before the vote, so it comes in one piece; until then every attempt that is counted is announced in
`openrlhf_math.progress` of a chunk without text.
"""

import json
from collections.abc import Iterator

from openrlhf_math.rerank.reranker import Progress
from openrlhf_math.serving.schema import ChatResponse, Usage


def event(chunk: dict) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def first_chunk(identity: str, created: int, model: str) -> dict:
    return _chunk(identity, created, model, [_choice(0, {"role": "assistant", "content": ""})])


def progress_chunk(identity: str, created: int, model: str, progress: Progress, usage: Usage | None) -> dict:
    """usage: so far; None if it is not wanted."""
    state = {"attempts": progress.attempts, "answer": progress.answer, "votes": list(progress.votes)}
    chunk = _chunk(identity, created, model, [_choice(0, {})]) | {"openrlhf_math": {"progress": state}}
    return chunk | ({"usage": usage.model_dump()} if usage else {})


def last_chunks(identity: str, created: int, response: ChatResponse, usage: bool, continuous: bool) -> Iterator[dict]:
    """The answers, the end of each, and all that they rest on; then the usage, if it is wanted. continuous: each chunk
    has it."""
    spent = {"usage": response.usage.model_dump()}
    for chunk in _last(identity, created, response):
        yield chunk | (spent if continuous else {})
    if usage:
        yield _chunk(identity, created, response.model, []) | spent


def _last(identity: str, created: int, response: ChatResponse) -> Iterator[dict]:
    for choice in response.choices:
        delta = {"role": "assistant", "content": choice.message.content}
        yield _chunk(identity, created, response.model, [_choice(choice.index, delta)])
    ends = [_choice(choice.index, {}, choice.finish_reason) for choice in response.choices]
    report = response.openrlhf_math.model_dump(mode="json")
    yield _chunk(identity, created, response.model, ends) | {"openrlhf_math": report}


def _chunk(identity: str, created: int, model: str, choices: list[dict]) -> dict:
    return {"id": identity, "object": "chat.completion.chunk", "created": created, "model": model, "choices": choices}


def _choice(index: int, delta: dict, finish_reason: str | None = None) -> dict:
    return {"index": index, "delta": delta, "finish_reason": finish_reason}
