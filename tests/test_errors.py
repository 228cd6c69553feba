"""Errors say where, what and how to mend it, and carry the exit code of their kind."""

from __future__ import annotations

from pathlib import Path

from regionclip.errors import DataCheckFailed, InputError, Interrupted


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
