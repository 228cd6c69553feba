"""What a stage does where its result is given by a file and not made: it says so, and leaves empty what it has not."""

from __future__ import annotations

from pathlib import Path

from regionclip.files import atomic_path


def say_not_needed(stage: str, reason: str) -> dict[str, str]:
    """Print why a stage has nothing to do, and return it as the stage's metrics."""
    print(f"{stage}: nothing to do, {reason}")
    return {"not_needed": reason}


def leave_empty(history: Path) -> None:
    """Write an empty learning curve, because DVC wants the file and nothing was trained."""
    with atomic_path(history) as beside:
        beside.touch()
