"""Answer prepared prompts: whole, or as a stream of server-sent events.

Enters: a request and its prepared prompts. Leaves: a response. A refusal before the first token has a status of its own; one in the middle of a
stream is an event that clients raise as an error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from burnish.sampling import Generated
from burnish.serve.engine import Done, Engine, Event, Failed, Token
from burnish.serve.listen import Listening
from burnish.serve.problems import envelope
from burnish.serve.prompts import Prepared
from burnish.serve.shapes import END, Shape, event, text_entries, usage_of
from burnish.serve.speaking import Speaking

LARGE = 1 << 16
"""Characters of a request from which it is prepared in a thread, so that the others do not wait."""


async def prepared(make: Callable[[], Any], *, large: bool) -> Any:
    """Return what `make` makes, in a thread where that may take long."""
    return await asyncio.to_thread(make) if large else make()


async def answer(
    request: Request, engine: Engine, given: Sequence[Prepared], shape: Shape, *, stream: bool, logprobs: bool
) -> Response:
    """Return the answers to prompts; samples of one prompt stand together, as choices are numbered."""
    listening = Listening(engine, given, streams=stream)
    listening.submit()
    speakers = [
        [Speaking(one, row, shape.chat) for row in ticket.rows] for one, ticket in zip(given, listening.tickets, strict=True)
    ]
    if stream:
        first = await listening.next(request)
        return StreamingResponse(_chunks(listening, speakers, shape, first, logprobs), media_type="text/event-stream")
    answers = await listening.answers(request)
    choices = [
        _choice(speaker, one, shape, logprobs)
        for number, (some, said) in enumerate(zip(speakers, answers, strict=True))
        for speaker, one in zip(some, said, strict=True)
    ]
    for number, choice in enumerate(choices):
        choice["index"] = number
    usage = usage_of(sum(len(one.tokens_T) for one in given), [one for said in answers for one in said])
    return JSONResponse(shape.whole(choices, usage))


def _choice(speaker: Speaking, said: Generated, shape: Shape, logprobs: bool) -> dict[str, Any]:
    """Return a whole choice."""
    text, calls, reason = speaker.finish(said)
    found: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
    if not shape.chat:
        entries = text_entries(speaker.prepared.tokenizer, speaker.noted, 0) if logprobs else None
        return {**found, "text": text, "logprobs": entries}
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    if calls:
        message["tool_calls"] = calls
    return {**found, "message": message, "logprobs": {"content": speaker.entries(), "refusal": None} if logprobs else None}


async def _chunks(
    listening: Listening, speakers: list[list[Speaking]], shape: Shape, first: tuple[int, Event], logprobs: bool
) -> AsyncIterator[bytes]:
    """Yield the events of a stream, those that came together in one piece; whoever closes it early cancels the request."""
    starts = [sum(len(some) for some in speakers[:number]) for number in range(len(speakers))]
    flat = [speaker for some in speakers for speaker in some]
    writers = [_Writer(speaker, shape, number, logprobs) for number, speaker in enumerate(flat)]
    left, found = len(flat), [first]
    try:
        if shape.chat:
            yield b"".join(writer.opening() for writer in writers)
        while left:
            pieces = []
            for number, one in found:
                if isinstance(one, Failed):
                    yield b"".join(pieces) + event(envelope(one.error.status_code, one.error.detail, code=one.error.code))
                    return
                pieces.append(writers[starts[number] + one.sample].write(one))
                left -= isinstance(one, Done)
            if any(pieces):
                yield b"".join(pieces)
            if left:
                found = listening.waiting() or [await listening.events.get()]
        if shape.usage:
            answers = [speaker.answer for speaker in flat if speaker.answer is not None]
            yield shape.last(usage_of(sum(len(some[0].prepared.tokens_T) for some in speakers), answers))
        yield END
    finally:
        if left:
            listening.engine.metrics.count("cancelled")
        listening.cancel()


class _Writer:
    """Writes the chunks of one choice; the parts around its text are made once."""

    def __init__(self, speaker: Speaking, shape: Shape, number: int, logprobs: bool) -> None:
        self.speaker, self.shape, self.number, self.logprobs = speaker, shape, number, logprobs
        self.before, self.after = shape.around(number)
        self.offset = 0

    def opening(self) -> bytes:
        """Return the chunk that says who speaks."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self.shape.chunk([{"index": self.number, "delta": delta, "logprobs": None, "finish_reason": None}])

    def write(self, one: Token | Done) -> bytes:
        """Return the chunks that an event makes, none where nothing is certain yet."""
        if isinstance(one, Token):
            text = self.speaker.push(one.token, one.logprob, one.likeliest)
            return self._text(text) if text else b""
        text, calls, reason = self.speaker.finish(one.answer)
        found = self._text(text) if text or (self.logprobs and self.speaker.noted) else b""
        if calls:
            delta = {"tool_calls": [{"index": place, **call} for place, call in enumerate(calls)]}
            found += self.shape.chunk([{"index": self.number, "delta": delta, "logprobs": None, "finish_reason": None}])
        said: dict[str, Any] = {"delta": {}} if self.shape.chat else {"text": ""}
        return found + self.shape.chunk([{"index": self.number, **said, "logprobs": None, "finish_reason": reason}])

    def _text(self, text: str) -> bytes:
        """Return the chunk of a piece of text."""
        if not self.logprobs:
            self.speaker.noted.clear()
            return self.before + json.dumps(text, ensure_ascii=False).encode() + self.after
        if self.shape.chat:
            entries: Any = {"content": self.speaker.entries(), "refusal": None}
            said: dict[str, Any] = {"delta": {"content": text}}
        else:
            entries = text_entries(self.speaker.prepared.tokenizer, self.speaker.noted, self.offset)
            self.speaker.noted.clear()
            self.offset += len(text)
            said = {"text": text}
        return self.shape.chunk([{"index": self.number, **said, "logprobs": entries, "finish_reason": None}])
