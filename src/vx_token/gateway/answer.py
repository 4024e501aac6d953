"""Feeds an answer, while it passes, to the usage meter and to the reader of its tool calls."""

from vx_token.gateway.answer_calls import AnswerCalls
from vx_token.gateway.usage import UsageMeter


class AnswerReaders:
    """The readers of one answer.

    Attributes:
        meter: counts bytes and model tokens.
    """

    def __init__(self, meter: UsageMeter, calls: AnswerCalls | None = None) -> None:
        self.meter = meter
        self._calls = calls

    def feed(self, chunk: bytes) -> None:
        """Add the next chunk."""
        self.meter.feed(chunk)
        if self._calls is not None:
            self._calls.feed(chunk)

    def end(self) -> None:
        """Finish, before the client gets the end of the answer and can refer to it."""
        if self._calls is not None:
            self._calls.end()
