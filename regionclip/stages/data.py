"""Stage data: write the folders of ``data/`` that the section ``data`` of the params asks for."""

from __future__ import annotations

from pathlib import Path

from regionclip import artifacts
from regionclip.data.annotations.splits import write_detection_set
from regionclip.data.captions import write_caption_source
from regionclip.data.pictures import Looked
from regionclip.data.rejects import SUFFIX, Rejects
from regionclip.demo_world.build import build_demo_world
from regionclip.files import atomic_dir, put_dir, temporary_dir
from regionclip.runtime import workers
from regionclip.stages.context import StageContext


def run(context: StageContext) -> dict[str, dict[str, int]]:
    """Build the demo world and make the splits of real files; return the counts of the manifests."""
    data, limit = context.params.data, context.params.quarantine.max_fraction
    with atomic_dir(artifacts.DATA_REJECTED):
        # Filled below where a record is set aside.
        pass
    seen: dict[Path, Looked] = {}
    # All of them take their places, or none.
    with temporary_dir(artifacts.DATA / "new") as beside:
        if data.source == "demo":
            drawn = {name: of.format for name, of in data.sets.items() if of.files is None}
            counts = build_demo_world(beside, data.demo, context.params.seed, workers(), drawn)
        else:
            with Rejects(artifacts.rejected("data"), limit) as rejects:
                counts = {"scenes": write_caption_source(beside, data.captions, rejects)}
        for name, of in data.sets.items():
            if of.files is not None:
                with Rejects(artifacts.DATA_REJECTED / f"{name}{SUFFIX}", limit) as rejects:
                    counts[name] = write_detection_set(beside / artifacts.SETS.name, name, of, rejects, seen)
        # The graph names all of them; an empty folder is what the profile does not have.
        for name in ("pairs", "scenes_truth"):
            (beside / name).mkdir(exist_ok=True)
        for folder in list(beside.iterdir()):
            put_dir(folder, artifacts.DATA / folder.name)
    return counts
