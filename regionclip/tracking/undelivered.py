"""Records that MLflow did not take: kept in mlruns/undelivered/, and delivered from there later."""

from __future__ import annotations

import platform
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regionclip.errors import InputError, logger
from regionclip.files import read_json, write_json
from regionclip.tracking.delivery import Delivery, Record
from regionclip.tracking.processes import is_gone, process_tags
from regionclip.tracking.store import STATE, delivery_errors, require_answer, tracking_uri

_log = logger(__name__)
FOLDER = STATE / "undelivered"
_KEYS = ("stage", "run_id", "origin", "since", "records")


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
            values = (self._stage, run_id, origin, records[0]["time"], list(records))
            write_json(self.file, dict(zip(_KEYS, values, strict=True)))
        except OSError as error:
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
        stage: The stage.
        records: How many records wait or were delivered.
        run_id: The MLflow run, where it is known.
        outcome: ``waits`` (nothing was sent), ``delivered`` or ``in use`` (its stage still runs and delivers itself).
        refused: Why MLflow refused records that it will never take.
    """

    file: Path
    stage: str
    records: int
    run_id: str | None
    outcome: str
    refused: tuple[str, ...] = ()


def sync(*, dry_run: bool = False) -> Iterator[Synced]:
    """Deliver what lies in mlruns/undelivered/, the oldest run first, and remove what was delivered.

    What was sent before and is sent again, after a kill, changes nothing.

    Args:
        dry_run: Only say what lies there.

    Raises:
        InputError: A file is broken, or MLflow does not answer.
    """
    kept = [(file, _read(file)) for file in FOLDER.glob("*.json")]
    uri = tracking_uri()
    for file, content in sorted(kept, key=lambda item: (item[1]["since"], item[0])):
        records, said = content["records"], (file, content["stage"], len(content["records"]))
        finished = records[-1]["kind"] == "finish"
        if dry_run:
            yield Synced(*said, content["run_id"], "waits")
        elif not finished and not is_gone(content["origin"], records[-1]["time"] / 1000):
            yield Synced(*said, content["run_id"], "in use")
        else:
            end = [] if finished else [_end_of_killed(records)]
            run_id, refused = _deliver(uri, content["run_id"], [*records, *end])
            file.unlink()
            shutil.rmtree(file.with_suffix(""), ignore_errors=True)
            yield Synced(*said, run_id, "delivered", tuple(refused))


def _deliver(uri: str, run_id: str | None, records: Sequence[Record]) -> tuple[str | None, list[str]]:
    delivery = Delivery(uri, run_id)
    try:
        require_answer(uri)
        refused = [refusal for record in records if (refusal := delivery.send(record))]
    except delivery_errors() as error:
        problem = " ".join(str(error).split())[:300]
        mend = "start the server, or set MLFLOW_TRACKING_URI to the one that is to have the runs"
        raise InputError(f"MLflow does not take the records ({problem})", file=uri, mend=mend) from None
    return delivery.run_id, refused


def _read(file: Path) -> dict[str, Any]:
    content = read_json(file)
    for key in _KEYS:
        if not isinstance(content, dict) or key not in content:
            mend = "remove the file; its records are lost"
            raise InputError("the key is missing", file=file, key=key, mend=mend)
    return content


def _end_of_killed(records: Sequence[Record]) -> Record:
    """Make the end of a run whose stage was killed before it could."""
    tags = {"closed_by": "regionclip mlflow-sync"}
    return {"kind": "finish", "status": "KILLED", "tags": tags, "time": records[-1]["time"]}
