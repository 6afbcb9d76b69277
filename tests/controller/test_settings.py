from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from relaymesh.controller.settings import ControllerSettings

SECRET = "s" * 32


def settings(**values: Any) -> ControllerSettings:
    return ControllerSettings(**({"join_secret": SECRET} | values))


def test_the_defaults_are_loopback_and_show_no_secret() -> None:
    plain = settings(admin_token="a" * 16)
    assert (plain.listen, plain.api_listen) == ("127.0.0.1:7400", "127.0.0.1:7401")
    assert plain.read_join_secret() == SECRET and not plain.api_is_public
    assert SECRET not in repr(plain) and "a" * 16 not in repr(plain)


def test_the_secret_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "join.secret"
    file.write_text(SECRET + "\n")
    assert settings(join_secret=None, join_secret_file=file).read_join_secret() == SECRET


def test_a_public_api_has_a_token_and_tls() -> None:
    public = settings(
        listen="[::]:7400", api_listen="0.0.0.0:7401", tls_cert="c", tls_key="k", admin_token="a" * 16
    )
    assert public.api_is_public
    assert not settings(api_listen="off").api_is_public


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"join_secret": None}, "either join_secret or join_secret_file"),
        ({"join_secret_file": "x"}, "either join_secret or join_secret_file"),
        ({"join_secret": "short"}, "at least 32 bytes"),
        ({"join_secret": None, "join_secret_file": "/does/not/exist"}, "No such file"),
        ({"listen": "7400"}, "HOST:PORT"),
        ({"api_listen": "on"}, "HOST:PORT"),
        ({"listen": "0.0.0.0:7400"}, "needs tls_cert and tls_key"),
        ({"api_listen": "0.0.0.0:7401"}, "needs admin_token"),
        ({"api_listen": "0.0.0.0:7401", "tls_cert": "c", "tls_key": "k"}, "needs admin_token"),
        ({"api_listen": "0.0.0.0:7401", "admin_token": "a" * 16}, "needs admin_token"),
        ({"admin_token": "short"}, "admin_token"),
        ({"tls_cert": "c"}, "go together"),
        ({"dead_after_ms": 90}, "two probe intervals"),
        ({"probe_interval_ms": 0}, "probe_interval_ms"),
        ({"report_interval_ms": "nan"}, "report_interval_ms"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_does_not_fit_is_said(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**values)
