"""Stage data: write the folders of ``data/`` that the section ``data`` of the params asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.data.caption_source import write_caption_source
from regionclip.data.demo import build_demo_world
from regionclip.data.layout import DEMO_FILES
from regionclip.data.rejects import SUFFIX, Rejects
from regionclip.data.splits import write_detection_set
from regionclip.files import atomic_dir
from regionclip.runtime import workers

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext

ROOT = Path("data")
REJECTED = ROOT / "rejected"


def run(context: StageContext) -> dict[str, dict[str, int]]:
    """Build the demo world, or make the splits of real files; return the counts of the manifests."""
    params = context.params
    with atomic_dir(REJECTED):
        # Filled below where a record is set aside.
        pass
    if params.data.source == "files":
        return _from_files(context)
    return build_demo_world(ROOT, params.data.demo, params.seed, workers())


def _from_files(context: StageContext) -> dict[str, dict[str, int]]:
    """Write data/coco, data/lvis and data/scenes from files; what only the demo world has is left empty."""
    data = context.params.data
    for name in ("pairs", "scenes_truth"):
        with atomic_dir(ROOT / name):
            pass
    counts = {"scenes": write_caption_source(ROOT, data.files.captions)}
    for name in DEMO_FILES:
        if name in data.sets:
            limit = context.params.quarantine.max_fraction
            with Rejects(REJECTED / f"{name}{SUFFIX}", limit) as rejects:
                counts[name] = write_detection_set(ROOT, name, getattr(data.files, name), rejects)
        else:
            # The graph names both sets; an empty folder is one that the profile does not have.
            with atomic_dir(ROOT / name):
                pass
    return counts
