"""Keeps Gemini's thought signatures for clients that drop them: takes them from answers, puts them back into requests.

Gemini 3 answers a tool call with a signature in its `extra_content`, and refuses the next request without it. Source:
Google's page "Thought signatures".
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from functools import partial

from vx_token.gateway.answer_calls import AnswerCalls
from vx_token.gateway.settings import SignatureSettings
from vx_token.gateway.signature_memory import Scope, SignatureMemory
from vx_token.gateway.tool_calls import EXTRA, RequestCall, ToolCall, request_calls

STAND_IN = '{"google":{"thought_signature":"skip_thought_signature_validator"}}'
"""Google's documented stand-in for a lost signature: it skips the check."""

Count = Callable[[str, str, int], None]
"""Receives a profile, an action (`kept`, `put_back`, `stood_in`) and a number of signatures."""


def has_tools(body: bytes) -> bool:
    """Return whether a chat request may declare tools or contain tool calls; cheap."""
    return b'"tool' in body


def caller_of(local_key: str) -> bytes:
    """Return a digest of the local key, so that the memory does not contain the key."""
    return hashlib.blake2b(local_key.encode("utf-8", "surrogateescape"), digest_size=16).digest()


class ThoughtSignatures:
    """The signatures of all conversations.

    Args:
        count: counts the signatures by action.
        memory: holds the signatures.

    Attributes:
        settings: may be replaced at any time.
    """

    def __init__(self, settings: SignatureSettings, count: Count, memory: SignatureMemory | None = None) -> None:
        self.settings = settings
        self._count = count
        self._memory = memory if memory is not None else SignatureMemory(time.monotonic)

    def apply(self, settings: SignatureSettings) -> None:
        """Replace the settings; switched off, everything is forgotten at the next `prune`."""
        self.settings = settings

    def prune(self) -> None:
        """Forget expired signatures."""
        if self.settings.enabled:
            self._memory.prune()
        else:
            self._memory.clear()

    def restore(self, body: bytes, scope: Scope) -> bytes:
        """Put signatures into the tool calls of a chat request that lack them; every other byte stays the same.

        Malformed JSON is returned unchanged.
        """
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return body
        insertions = self._insertions(request_calls(text), scope)
        return _insert(text, insertions).encode() if insertions else body

    def reader(self, scope: Scope, headers: Mapping[str, str]) -> AnswerCalls:
        """Return a reader that keeps the signatures of an answer with these headers."""
        encoding = headers.get("Content-Encoding", "")
        return AnswerCalls(headers.get("Content-Type", ""), encoding, partial(self._keep, scope))

    def _keep(self, scope: Scope, call: ToolCall, extra: str) -> None:
        if self._memory.put(scope, call, extra):
            self._count(scope.profile, "kept", 1)

    def _insertions(self, calls: list[RequestCall], scope: Scope) -> list[tuple[int, str]]:
        """Return the offsets and texts to insert."""
        stands_in = self.settings.stands_in_for(scope.model)
        insertions, put_back = [], 0
        for each in calls:
            extra = None if each.extra else self._memory.get(scope, each.call)
            if extra is not None:
                put_back += 1
            elif stands_in and each.first and not each.extra:  # of parallel calls only the first one has a signature
                extra = STAND_IN
            if extra is not None:
                insertions.append((each.at, f'"{EXTRA}":{extra},'))
        for action, number in (("put_back", put_back), ("stood_in", len(insertions) - put_back)):
            if number:
                self._count(scope.profile, action, number)
        return insertions


def _insert(text: str, insertions: list[tuple[int, str]]) -> str:
    parts: list[str] = []
    start = 0
    for at, insertion in insertions:
        parts += text[start:at], insertion
        start = at
    return "".join([*parts, text[start:]])
