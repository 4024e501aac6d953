"""When no client is about to use a connection that it has."""

import asyncio

from vx_token.gateway.connections import Connections


class Wire(asyncio.Transport):
    """A connection that is open until it is told otherwise."""

    closing = False

    def is_closing(self) -> bool:
        return self.closing


def test_a_connection_is_quiet_some_time_after_its_last_answer() -> None:
    now = [100.0]
    connections, wire = Connections(lambda: now[0]), Wire()
    assert connections.quiet(6.0)
    connections.asked(wire)
    now[0] += 3600.0
    assert not connections.quiet(6.0), "its answer may take as long as it wants"
    connections.answered(wire)
    now[0] += 5.9
    assert not connections.quiet(6.0)
    now[0] += 0.1
    assert connections.quiet(6.0)


def test_a_connection_that_is_told_to_end_or_closed_holds_nothing_up() -> None:
    connections, told, closed, gone = Connections(), Wire(), Wire(), Wire()
    for wire in (told, closed, gone):
        connections.asked(wire)
        connections.answered(wire)
    connections.moving = True
    connections.asked(told)
    closed.closing = True
    assert not connections.quiet(6.0)
    del wire, gone
    assert connections.quiet(6.0), "while its last answer is under way too"
    connections.answered(told)
    assert connections.quiet(6.0)


def test_a_connection_just_taken_is_not_known_until_it_asks() -> None:
    connections, wire = Connections(), Wire()
    assert connections.known([None])
    assert not connections.known([wire])
    connections.asked(wire)
    assert connections.known([wire])
