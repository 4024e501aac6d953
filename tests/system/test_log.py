"""One line an event, in the form that the place expects."""

import json
import logging
import os
import re
import tempfile
import threading

import pytest

from vx_token.system import log


def said(form: str, level: str, message: str, profile: str = "") -> str:
    with tempfile.TemporaryFile("w+") as stream:
        log.Log(form, stream).event(level, message, profile)
        stream.seek(0)
        return stream.read()


def test_text_tells_when_how_bad_whose_and_what() -> None:
    line = said("text", "warning", "no network", "gemini")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ warning gemini: no network\n", line)


@pytest.mark.parametrize(("level", "number"), [("error", 3), ("warning", 4), ("notice", 5), ("info", 6)])
def test_systemd_gets_its_level_and_no_time(level: str, number: int) -> None:
    assert said("systemd", level, "text", "p") == f"<{number}>p: text\n"


def test_json_has_the_same_parts() -> None:
    found = json.loads(said("json", "info", 'a "b"', "p"))
    assert (found["level"], found["profile"], found["message"]) == ("info", "p", 'a "b"')


@pytest.mark.parametrize("form", ["text", "systemd", "json"])
def test_an_event_is_one_line_whatever_it_tells(form: str) -> None:
    line = said(form, "error", "one\ntwo\r\n<3>three\n")
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert "one two <3>three" in line


def test_nothing_in_it_steers_a_terminal() -> None:
    assert "\x1b" not in said("text", "info", "\x1b[2Jcleared \x07")


def test_the_journal_gets_its_form_by_its_own_descriptor_only() -> None:
    reader, writer = os.pipe()
    found = os.fstat(writer)
    environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    assert log.form("", environ, writer) == "systemd"
    assert log.form("", environ, 0) == "text"
    os.close(reader)
    os.close(writer)
    assert log.form("", environ, writer) == "text"


def test_what_a_library_says_is_an_event_without_its_traceback() -> None:
    with tempfile.TemporaryFile("w+") as stream, log.libraries(log.Log("json", stream)):
        try:
            raise ValueError("ya29.secret")
        except ValueError:
            logging.getLogger("somebody").exception("it went\nwrong")
        logging.getLogger("somebody").debug("details")
        stream.seek(0)
        lines = stream.read().splitlines()
    assert [(json.loads(line)["level"], json.loads(line)["message"]) for line in lines] == [("error", "it went wrong")]


def test_many_threads_write_whole_lines() -> None:
    with tempfile.TemporaryFile("a+") as stream:
        lines = log.Log("json", stream)

        def write() -> None:
            for _ in range(50):
                lines.event("info", "x" * 100)

        writers = [threading.Thread(target=write) for _ in range(8)]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        stream.seek(0)
        assert [json.loads(line)["message"] for line in stream] == ["x" * 100] * 400


def test_a_reader_that_went_away_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        log.Log("text", stream).event("info", "into the void")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    log.Log("text", stream).event("info", "to a closed stream")


@pytest.mark.parametrize(
    ("asked", "environ", "form"),
    [
        ("", {}, "text"),
        ("", {"JOURNAL_STREAM": "8:1"}, "text"),
        ("", {"INVOCATION_ID": "x"}, "text"),
        ("json", {"JOURNAL_STREAM": "8:1"}, "json"),
        ("text", {"INVOCATION_ID": "x"}, "text"),
    ],
)
def test_the_form_is_what_was_asked_else_what_the_place_expects(asked: str, environ: dict[str, str], form: str) -> None:
    assert log.form(asked, environ) == form
