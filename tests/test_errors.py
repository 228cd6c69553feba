"""Errors say where, what and how to mend it, and carry the exit code of their kind."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionclip.errors import DataCheckFailed, InputError, Interrupted, logger, printable, redacted

PASSWORD = "p4ssw0rd"
ADDRESSES = st.builds(
    "{}://{}:{}@{}".format,
    st.sampled_from(["http", "https", "s3", "postgresql+psycopg2", "ssh"]),
    st.text("abc.%-_", min_size=1, max_size=5),
    st.text("xyz!$%:;,=+.~-", max_size=5).map(lambda more: more + PASSWORD),
    st.sampled_from(["host", "127.0.0.1:5000", "host/a?b=c@d", "[::1]:80/x"]),
)


def test_message_names_file_record_key_problem_and_mend() -> None:
    error = InputError("no number", file=Path("a/b.json"), record=7, key="width", mend="write one")
    assert str(error) == "a/b.json, record 7, key 'width': no number. To mend: write one."
    assert (error.file, error.record, error.key, error.mend) == (Path("a/b.json"), 7, "width", "write one")


def test_message_leaves_out_what_is_not_known() -> None:
    assert str(InputError("no number")) == "no number."
    assert str(InputError("no number", record=0)) == "record 0: no number."
    assert str(InputError("no number", key="x", mend="write one")) == "key 'x': no number. To mend: write one."


def test_each_kind_has_its_exit_code() -> None:
    assert (InputError.exit_code, DataCheckFailed.exit_code, Interrupted.exit_code) == (2, 3, 4)
    assert issubclass(DataCheckFailed, InputError) and not issubclass(Interrupted, InputError)


@given(st.lists(ADDRESSES, min_size=1, max_size=3), st.sampled_from([" ", ", ", ",", "' '", "\n", "), ("]))
def test_no_message_and_no_record_of_a_log_shows_a_password(addresses: list[str], between: str) -> None:
    text = f"API request to ({between.join(addresses)}) failed"
    error = InputError(text, file=addresses[0], record=Path(addresses[0]), key=text, mend=f"look at {text}")
    assert PASSWORD not in redacted(text) and PASSWORD not in str(error)
    assert "API request to (" in redacted(text) and "host" in redacted(text) + "host"
    log, seen = logger("tests.of.redaction"), []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    log.addHandler(handler)
    log.warning("MLflow does not take %s. %s", text, OSError(text))
    log.removeHandler(handler)
    assert len(seen) == 1 and PASSWORD not in seen[0] and "MLflow does not take API" in seen[0]


@pytest.mark.parametrize("password", ["a@b", "a/b", "a#b?c", "a:b", "%40", "a//b"])
def test_passwords_that_no_address_allows_are_cut_too(password: str) -> None:
    assert redacted(f"to http://admin:{password}@127.0.0.1:5000/api.") == "to http://127.0.0.1:5000/api."


@pytest.mark.parametrize(
    "text",
    ["models:/regionclip-coco@candidate", "http://host:5000/api/a@b", "git@host:a/b", "a@b.c", "2 // 3 at 5", "/a//b"],
)
def test_what_holds_no_password_stays(text: str) -> None:
    assert redacted(text) == text


@given(st.text())
def test_no_text_of_an_error_commands_the_terminal(text: str) -> None:
    error = InputError(text, file=text, record=text, key=text, mend=text)
    for shown in (printable(text), str(error)):
        assert not [one for one in shown if unicodedata.category(one) in ("Cc", "Cs") and one not in "\t\n"]
        assert not set(shown) & set("\u202e\u202d\u2066\u2067\u2028\u200f")
    assert error.key == text and printable("Größe 犬 ✓") == "Größe 犬 ✓"
