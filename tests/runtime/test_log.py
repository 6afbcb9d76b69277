import json
import logging

import pytest
import structlog

from relaymesh.runtime.log import configure_logging, get_logger


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_line_is_json_with_its_context(capsys):
    configure_logging("info", "json")
    structlog.contextvars.bind_contextvars(node="fra-1", room="demo")
    get_logger("relaymesh.test").info("link up", peer="lon-1", rtt_ms=12.5)
    get_logger("relaymesh.test").debug("not said")
    [line] = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "link up",
        "level": "info",
        "logger": "relaymesh.test",
        "node": "fra-1",
        "peer": "lon-1",
        "room": "demo",
        "rtt_ms": 12.5,
    }


def test_a_librarys_line_has_the_same_shape_and_an_exception_stays_one_line(capsys):
    configure_logging("info", "json")
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("somebody").exception("it broke")
    [line] = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["event"] == "it broke"
    assert "ValueError: boom" in entry["exception"]


def test_the_console_format_is_for_people(capsys):
    configure_logging("warning", "console")
    get_logger("x").info("quiet")
    get_logger("x").warning("loud", peer="lon-1")
    text = capsys.readouterr().err
    assert "quiet" not in text
    assert "loud" in text
    assert "peer=lon-1" in text


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_does_not_show_what_the_variables_hold(capsys, log_format):
    configure_logging("info", log_format)

    def fails(secret: str) -> None:
        raise ValueError("boom")

    try:
        fails("the-key-" * 2)
    except ValueError:
        get_logger("x").exception("it broke")
    text = capsys.readouterr().err
    assert "ValueError: boom" in text
    assert "the-key-the-key-" not in text
