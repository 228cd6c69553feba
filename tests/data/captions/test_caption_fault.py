"""What makes a caption unfit: emptiness, length, control characters, a wrong encoding; other scripts do not."""

from __future__ import annotations

import pytest

from regionclip.data.captions.base import LONGEST, caption_fault


@pytest.mark.parametrize(
    ("caption", "fault"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("a" * 10_000, "more than 1000 characters"),
        ("a" * (LONGEST + 1), "more than 1000 characters"),
        ("a star\x00", "control characters"),
        ("\x1b[31ma red star", "control characters"),
        ("a cafe\x92s sign", "control characters"),  # a right quote of Windows' Latin-1, taken for Unicode
        (b"a caf\xe9".decode(errors="replace"), "not UTF-8"),
    ],
)
def test_unfit_captions_are_told_why(caption: str, fault: str) -> None:
    assert fault in caption_fault(caption)


@pytest.mark.parametrize("caption", ["a star", "a café 🌟", "星と船", "two\nlines\tand\r\na tab", "a" * LONGEST])
def test_fit_captions_have_no_fault(caption: str) -> None:
    assert caption_fault(caption) is None
