"""What maintenance found and what it did about it: one row of its table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that maintenance looked at.

    Attributes:
        subject: What kind of thing, such as ``flow run``.
        item: Which one.
        found: What is the matter with it.
        done: What was done; with ``dry_run``, what would be done.
    """

    subject: str
    item: str
    found: str
    done: str


def done(action: str, dry_run: bool) -> str:
    """Return the word for an action, or that it would be done."""
    return f"would be {action}" if dry_run else action
