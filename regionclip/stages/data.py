"""Stage data: write the folders of ``data/`` that the section ``data`` of the params asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip import artifacts
from regionclip.data.annotations.splits import write_detection_set
from regionclip.data.captions.source import write_caption_source
from regionclip.data.layout import DEMO_FILES
from regionclip.data.pictures import Looked
from regionclip.data.rejects import SUFFIX, Rejects
from regionclip.demo_world import build_demo_world
from regionclip.files import atomic_dir, put_dir, temporary_dir
from regionclip.runtime import workers

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext


def run(context: StageContext) -> dict[str, dict[str, int]]:
    """Build the demo world, or make the splits of real files; return the counts of the manifests."""
    params = context.params
    with atomic_dir(artifacts.DATA_REJECTED):
        # Filled below where a record is set aside.
        pass
    if params.data.source == "files":
        return _from_files(context)
    return build_demo_world(artifacts.DATA, params.data.demo, params.seed, workers())


def _from_files(context: StageContext) -> dict[str, dict[str, int]]:
    """Write data/coco, data/lvis and data/scenes from files; what only the demo world has is left empty."""
    data, limit = context.params.data, context.params.quarantine.max_fraction
    seen: dict[Path, Looked] = {}
    with _together(artifacts.DATA) as beside:
        # The graph names all of them; an empty folder is what the profile does not have.
        for name in ("pairs", "scenes_truth", *DEMO_FILES):
            (beside / name).mkdir()
        with Rejects(artifacts.rejected("data"), limit) as rejects:
            counts = {"scenes": write_caption_source(beside, data.files.captions, rejects)}
        for name in data.sets:
            with Rejects(artifacts.DATA_REJECTED / f"{name}{SUFFIX}", limit) as rejects:
                counts[name] = write_detection_set(beside, name, getattr(data.files, name), rejects, seen)
    return counts


@contextmanager
def _together(root: Path) -> Iterator[Path]:
    """Give a folder to fill with folders; they take their places below ``root`` only if the block succeeds."""
    with temporary_dir(root / "new") as beside:
        yield beside
        for folder in list(beside.iterdir()):
            put_dir(folder, root / folder.name)
