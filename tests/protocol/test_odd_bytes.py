"""Bytes from outside that are long or absurd: their reading ends soon, and raises nothing odd."""

import pytest

from nats_ev.errors import PermissionsViolationError, server_error
from nats_ev.headers import Headers
from nats_ev.jetstream.advisory import decode_advisory
from nats_ev.jetstream.errors import InvalidAnswerError


@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_a_megabyte_of_blanks_in_a_status_line_is_read_in_linear_time(blank):
    headers = Headers.parse(b"NATS/1.0 200 a" + blank * 1_000_000 + b"b\r\n\r\n")
    assert headers.status == 200
    assert len(headers.description) == 1_000_002


@pytest.mark.parametrize("quoted", [r"\Uffffffff", r"\U00110000"])
def test_an_err_with_an_escape_beyond_unicode_becomes_an_error(quoted):
    text = f'Permissions Violation for Publish to "{quoted}"'
    assert isinstance(server_error(f"'{text}'"), PermissionsViolationError)


def test_an_err_with_an_absurd_sid_becomes_an_error():
    text = f'Permissions Violation for Subscription to "a" (sid "{"9" * 5000}")'
    assert isinstance(server_error(f"'{text}'"), PermissionsViolationError)


def test_a_deeply_nested_advisory_is_an_invalid_answer():
    with pytest.raises(InvalidAnswerError):
        decode_advisory("$JS.EVENT.x", b"[" * 100_000)
