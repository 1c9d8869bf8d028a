"""One answer from first byte to last event, the same for every protocol: retries before the first event, end, and closing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol

from agent_svc.adapters.models.transport import Answer, Transport
from agent_svc.domain.model import ModelError, ModelEvent

_TRAILER_S = 2.0


class Decoder(Protocol):
    """Turns the bytes of one answer into events. `answered`: the model has said why it stopped; `over`: ModelFinished is out."""

    answered: bool
    over: bool

    def feed(self, chunk: bytes) -> Sequence[ModelEvent]:
        """The events of the next bytes, perhaps none; empty bytes are the end of the body. Raises ModelError."""
        ...


async def stream_answer(
    transport: Transport, send: Callable[[], Awaitable[Answer]], decoder_for: Callable[[Answer], Decoder]
) -> AsyncGenerator[ModelEvent, None]:
    """Send the request and yield the answer's events; what fails before the first event is sent again, within the limits."""
    attempt = 1
    while True:
        begun = False
        try:
            async with await send() as answer:
                decoder = decoder_for(answer)
                trailing = False
                while not decoder.over:
                    events = decoder.feed(await _read(answer, decoder))
                    if decoder.over:
                        answer.complete()
                    elif decoder.answered and not trailing:
                        trailing = True
                        answer.allow_silence(_TRAILER_S)
                    for event in events:
                        begun = True
                        yield event
            return
        except ModelError as error:
            if begun or not await transport.wait_for_retry(attempt, error):
                raise
            attempt += 1


async def _read(answer: Answer, decoder: Decoder) -> bytes:
    try:
        return await answer.read()
    except ModelError:
        if decoder.answered:
            return b""  # The answer was whole; only the usage behind it is missing.
        raise
