"""Records that MLflow did not take: delivered later from mlruns/undelivered/, where stages and pipelines kept them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from regionclip.errors import InputError
from regionclip.tracking.origin import is_gone
from regionclip.tracking.record import FOLDER, End, Record
from regionclip.tracking.store import connect, delivery_errors, one_line, require_answer, tracking_uri


@dataclass(frozen=True)
class Synced:
    """What became of one file of undelivered records."""

    file: Path
    # waits: not all was sent. in use: its stage still runs and delivers itself. set aside: it is no such file, and has
    # another name now.
    outcome: Literal["waits", "delivered", "in use", "set aside"]
    stage: str = ""  # empty where the file does not say
    records: int = 0  # how many wait or were delivered
    run_id: str | None = None  # where it is known
    refused: tuple[str, ...] = ()  # why MLflow refused records that it will never take
    error: InputError | None = None  # why the file waits or was set aside


def sync(*, dry_run: bool = False) -> Iterator[Synced]:
    """Deliver what lies in mlruns/undelivered/, the oldest run first, and remove what was delivered.

    What was sent before and is sent again, after a kill, changes nothing. One file that cannot be delivered holds up no
    other. ``dry_run`` only says what lies there.

    Raises:
        InputError: MLflow does not answer.
    """
    kept: list[tuple[Path, Record]] = []
    for file in sorted(FOLDER.glob("[!.]*.json")):
        try:
            kept.append((file, Record.model_validate_json(file.read_bytes())))
        except (ValidationError, OSError) as error:
            yield _set_aside(file, error, dry_run)
    uri = tracking_uri()
    for file, record in sorted(kept, key=lambda item: (item[1].since, item[0])):
        waits = Synced(file, "waits", record.stage, record.waiting, record.run_id)
        if dry_run:
            yield waits
        elif record.end is None and not is_gone(record.origin, record.last / 1000):
            yield replace(waits, outcome="in use")
        else:
            # A stage that was killed could not end its run.
            killed = End(time=record.last, status="KILLED", tags={"closed_by": "regionclip mlflow-sync"})
            record.end = record.end or killed
            yield _deliver(waits, record, uri)


def _set_aside(file: Path, error: Exception, dry_run: bool) -> Synced:
    where = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error), "loc": ()}
    key = ".".join(map(str, where["loc"])) or None
    aside = file.with_suffix(".broken")
    if not dry_run:
        file.replace(aside)
    problem = f"not a record of a stage ({where['msg']}), so it is set aside as {aside.name}"
    broken = InputError(problem, file=file, key=key, mend="mend it and give it its name back, or delete it")
    return Synced(file, "set aside", error=broken)


def _deliver(waits: Synced, record: Record, uri: str) -> Synced:
    try:
        require_answer(uri)
    except OSError as error:
        problem = f"MLflow does not take the records ({one_line(error)})"
        mend = "start the server, or set MLFLOW_TRACKING_URI to the one that is to have the runs"
        raise InputError(problem, file=uri, mend=mend) from None
    try:
        refused = record.send(connect(uri))
    except delivery_errors() as error:
        if not isinstance(error, InputError):
            problem = f"MLflow does not take the records ({one_line(error)})"
            error = InputError(problem, file=waits.file, mend="look after MLflow and run it again, or delete the file")
        return replace(waits, run_id=record.run_id, error=error)
    record.remove(waits.file)
    return replace(waits, outcome="delivered", run_id=record.run_id, refused=tuple(refused))
