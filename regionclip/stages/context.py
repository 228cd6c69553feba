"""What a stage is handed by the runner."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from regionclip.params import Params
from regionclip.tracking.tracker import Tracker


@dataclass(frozen=True)
class StageContext:
    """What a stage is given besides its files."""

    stage: str  # DVC's name of it
    params: Params  # the whole of params.yaml, checked
    dataset: str | None  # of a foreach stage
    digest: str  # names the params and inputs that decide the result; kept in what the stage writes
    scratch: Path  # folder for resumable state, named by the digest
    tracker: Tracker | None  # the stage's MLflow run; None in processes of a group that track nothing

    def model_run(self, model: str) -> AbstractContextManager[Tracker | None]:
        """Record the block in a run of the model's own below the stage's; None where nothing is tracked."""
        return nullcontext() if self.tracker is None else self.tracker.model_run(model)

    def not_needed(self, reason: str) -> dict[str, str]:
        """Print why the stage has nothing to do, and return it as the stage's metrics."""
        print(f"{self.stage}: nothing to do, {reason}")
        return {"not_needed": reason}
