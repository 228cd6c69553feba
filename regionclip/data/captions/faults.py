"""What makes a caption unfit to learn from."""

from __future__ import annotations

import re

LONGEST = 1000
"""Characters; CLIP reads about 300, and COCO's longest has 250."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tab and ends of lines


def caption_fault(caption: str) -> str | None:
    """Return what is wrong with a caption, or None.

    Emoji, accents and other scripts are no fault. Bytes of Latin-1 that were read as UTF-8 leave U+FFFD, or control
    characters where they were taken for Unicode.
    """
    if not caption.strip():
        return "the caption is empty"
    if len(caption) > LONGEST:
        return f"the caption has more than {LONGEST} characters"
    if _CONTROL.search(caption):
        return "the caption has control characters"
    if "\ufffd" in caption:
        return "the caption was not UTF-8"
    return None
