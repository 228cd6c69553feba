"""Records that MLflow did not take: kept in mlruns/undelivered/, and delivered from there later."""

from __future__ import annotations

import platform
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from regionclip.errors import InputError, logger
from regionclip.files import write_json
from regionclip.tracking.delivery import ID, AnyRecord, Delivery, Record, Whole
from regionclip.tracking.processes import is_gone, process_tags
from regionclip.tracking.store import STATE, delivery_errors, one_line, require_answer, tracking_uri

_log = logger(__name__)
FOLDER = STATE / "undelivered"


class _Kept(TypedDict):
    stage: str
    run_id: str | None
    origin: dict[str, str]
    since: Whole
    records: Annotated[list[AnyRecord], Field(min_length=1)]


def _can_begin(kept: _Kept) -> _Kept:
    first = kept["records"][0]
    if ID not in first["tags"] if first["kind"] == "start" else kept["run_id"] is None:
        raise ValueError("it names no run, and does not say how to open one")
    return kept


_KEPT = TypeAdapter(Annotated[_Kept, AfterValidator(_can_begin)])


class Undelivered:
    """What waits of one run: ``STAGE-ID.json``, and beside it a folder with copies of the artifacts that wait.

    Attributes:
        file: The JSON file.
    """

    def __init__(self, stage: str, identity: str) -> None:
        self.file = FOLDER / f"{stage.replace('@', '_').replace(' ', '_')}-{identity[:12]}.json"
        self._stage, self._copies = stage, self.file.with_suffix("")

    def keep(self, run_id: str | None, records: Sequence[Record]) -> None:
        """Write the records, and copy artifacts, since they may be other ones later; a full disk stops no stage."""
        try:
            for record in records:
                if record["kind"] == "artifact" and not Path(record["path"]).is_relative_to(self._copies):
                    record["path"] = str(self._copy(Path(record["path"])))
            origin = {"host": platform.node(), **process_tags()}
            kept = {"stage": self._stage, "run_id": run_id, "origin": origin, "since": records[0]["time"]}
            write_json(self.file, {**kept, "records": list(records)})
        except (OSError, ValueError) as error:
            # ValueError: a text that is none.
            _log.warning("The record of %s cannot be kept in %s. %s", self._stage, self.file, error)

    def remove(self) -> None:
        """Remove what was kept."""
        self.file.unlink(missing_ok=True)
        shutil.rmtree(self._copies, ignore_errors=True)

    def _copy(self, path: Path) -> Path:
        # Files of one name may wait twice.
        copy = self._copies / uuid.uuid4().hex[:8] / path.name
        copy.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, copy)
        else:
            shutil.copy2(path, copy)
        return copy


@dataclass(frozen=True)
class Synced:
    """What became of one file of undelivered records.

    Attributes:
        file: The file.
        outcome: ``waits`` (not all was sent), ``delivered``, ``in use`` (its stage still runs and delivers itself) or
            ``set aside`` (it is no such file, and has another name now).
        stage: The stage; empty where the file does not say.
        records: How many records wait or were delivered.
        run_id: The MLflow run, where it is known.
        refused: Why MLflow refused records that it will never take.
        error: Why the file waits or was set aside.
    """

    file: Path
    outcome: str
    stage: str = ""
    records: int = 0
    run_id: str | None = None
    refused: tuple[str, ...] = ()
    error: InputError | None = None


def sync(*, dry_run: bool = False) -> Iterator[Synced]:
    """Deliver what lies in mlruns/undelivered/, the oldest run first, and remove what was delivered.

    What was sent before and is sent again, after a kill, changes nothing. One file that cannot be delivered holds up no
    other.

    Args:
        dry_run: Only say what lies there.

    Raises:
        InputError: MLflow does not answer.
    """
    kept: list[tuple[Path, _Kept]] = []
    for file in sorted(FOLDER.glob("[!.]*.json")):
        try:
            kept.append((file, _KEPT.validate_json(file.read_bytes(), strict=True)))
        except (ValidationError, OSError) as error:
            yield _set_aside(file, error, dry_run)
    uri = tracking_uri()
    for file, content in sorted(kept, key=lambda item: (item[1]["since"], item[0])):
        records, origin = content["records"], content["origin"]
        said = {"stage": content["stage"], "records": len(records)}
        finished = records[-1]["kind"] == "finish"
        if dry_run:
            yield Synced(file, "waits", **said, run_id=content["run_id"])
        elif not finished and not is_gone(origin, records[-1]["time"] / 1000):
            yield Synced(file, "in use", **said, run_id=content["run_id"])
        else:
            end = [] if finished else [_end_of_killed(records)]
            yield _deliver(file, Delivery(uri, content["run_id"]), [*records, *end], said)


def _set_aside(file: Path, error: Exception, dry_run: bool) -> Synced:
    where = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error), "loc": ()}
    key = ".".join(map(str, where["loc"])) or None
    aside = file.with_suffix(".broken")
    if not dry_run:
        file.replace(aside)
    problem = f"not a record of a stage ({where['msg']}), so it is set aside as {aside.name}"
    broken = InputError(problem, file=file, key=key, mend="mend it and give it its name back, or delete it")
    return Synced(file, "set aside", error=broken)


def _deliver(file: Path, delivery: Delivery, records: Sequence[Record], said: dict[str, Any]) -> Synced:
    try:
        require_answer(delivery.uri)
    except OSError as error:
        problem = f"MLflow does not take the records ({one_line(error)})"
        mend = "start the server, or set MLFLOW_TRACKING_URI to the one that is to have the runs"
        raise InputError(problem, file=delivery.uri, mend=mend) from None
    try:
        refused = tuple(refusal for record in records if (refusal := delivery.send(record)))
    except delivery_errors() as error:
        if not isinstance(error, InputError):
            problem = f"MLflow does not take the records ({one_line(error)})"
            error = InputError(problem, file=file, mend="look after MLflow and run it again, or delete the file")
        return Synced(file, "waits", **said, run_id=delivery.run_id, error=error)
    file.unlink()
    shutil.rmtree(file.with_suffix(""), ignore_errors=True)
    return Synced(file, "delivered", **said, run_id=delivery.run_id, refused=refused)


def _end_of_killed(records: Sequence[Record]) -> Record:
    """Make the end of a run whose stage was killed before it could."""
    tags = {"closed_by": "regionclip mlflow-sync"}
    return {"kind": "finish", "status": "KILLED", "tags": tags, "time": records[-1]["time"]}
