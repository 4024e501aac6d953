"""The connections: which are idle or stalled, and which is closed first."""

import asyncio

from vx_token.gateway.connections import Connections


class Wire(asyncio.Transport):
    """An open transport that records `close` and `abort`."""

    closing = False
    aborted = False
    unread = 0

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closing


def test_a_connection_is_idle_some_time_after_its_last_response() -> None:
    now = [100.0]
    connections, wire = Connections(lambda: now[0]), Wire()
    assert connections.idle_for(6.0)
    connections.request_started(wire)
    now[0] += 3600.0
    assert not connections.idle_for(6.0), "a response may take any time"
    connections.request_ended(wire)
    now[0] += 5.9
    assert not connections.idle_for(6.0)
    now[0] += 0.1
    assert connections.idle_for(6.0)


def test_a_draining_or_closed_connection_does_not_delay_the_stop() -> None:
    connections, draining, closed, gone = Connections(), Wire(), Wire(), Wire()
    for wire in (draining, closed, gone):
        connections.request_started(wire)
        connections.request_ended(wire)
    connections.draining = True
    connections.request_started(draining)
    closed.closing = True
    assert not connections.idle_for(6.0)
    del wire, gone
    assert connections.idle_for(6.0), "even during its last response"
    connections.request_ended(draining)
    assert connections.idle_for(6.0)


def test_a_new_connection_is_unused_until_its_first_request() -> None:
    connections, wire = Connections(), Wire()
    assert connections.all_used([None])
    assert not connections.all_used([wire])
    connections.request_started(wire)
    assert connections.all_used([wire])


def test_the_least_useful_connection_is_closed_first() -> None:
    now = [100.0]
    connections = Connections(lambda: now[0])
    client, other, silent, asking, stalled, reading = wires = [Wire() for _ in range(6)]
    for wire in wires:
        connections.opened(wire)
    for wire in (client, stalled, reading):
        connections.request_started(wire)
        connections.authenticated(wire)
    connections.request_ended(client)
    connections.request_started(other)
    connections.request_ended(other)  # without the key
    connections.request_started(asking)
    stalled.unread = reading.unread = 1000
    connections.abort_stalled(600.0)
    now[0] += 20.0
    reading.unread = 900
    connections.abort_stalled(600.0)
    order: list[Wire] = []
    while connections.close_oldest():
        order.append(next(wire for wire in wires if (wire.closing or wire.aborted) and wire not in order))
        connections.closed(order[-1])
    assert order == [silent, other, client, stalled]
    assert connections.count == 2, "a running request is never aborted for a new connection"


def test_a_new_connection_has_a_moment_to_send_its_request() -> None:
    now, new = [100.0], Wire()
    connections = Connections(lambda: now[0])
    connections.opened(new)
    assert not connections.close_oldest()
    now[0] += 0.25
    assert connections.close_oldest()
    assert new.closing


def test_a_client_has_ten_minutes_from_the_last_byte_that_it_read() -> None:
    now, wire = [0.0], Wire()
    connections = Connections(lambda: now[0])
    connections.opened(wire)
    for unread, instant in ((0, 1000.0), (500, 1005.0), (400, 1600.0), (400, 2199.0)):
        wire.unread, now[0] = unread, instant
        connections.abort_stalled(600.0)
        assert not wire.aborted
    now[0] = 2200.0
    connections.abort_stalled(600.0)
    assert wire.aborted
