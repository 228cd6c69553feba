"""Stage data: write the folders of ``data/`` that the section ``data`` of the params asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.data.demo import build_demo_world
from regionclip.runtime import workers

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext


def run(context: StageContext) -> dict[str, dict[str, int]]:
    """Build the demo world and return the counts of its manifests."""
    params = context.params
    return build_demo_world(Path("data"), params.data.demo, params.seed, workers())
