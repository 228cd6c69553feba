"""Stage concepts: captions of the scenes to the pool of noun concepts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regionclip import runtime
from regionclip.data.captions import open_captioned_images
from regionclip.data.layout import load_classes
from regionclip.errors import InputError
from regionclip.files import sha256_file, write_json
from regionclip.text.concepts import ConceptPool, count_concepts, coverage
from regionclip.text.parser import build_parser

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext

CAPTIONS, OUT = Path("data/scenes/captions.json"), Path("artifacts/concepts")
# Starting processes that load the lexicon takes seconds; below this many bytes one process is faster.
_WORTH_PROCESSES = 50_000_000


def run(context: StageContext) -> dict[str, float]:
    """Write artifacts/concepts/concepts.csv and .json, and coverage.json: which class names the pool holds."""
    params = context.params.concepts
    parser = build_parser(params.parser, params.modifiers)
    images = open_captioned_images(CAPTIONS)
    workers = runtime.workers() if CAPTIONS.stat().st_size > _WORTH_PROCESSES else 0
    counts = count_concepts(images.iter_captions(), parser, workers)
    pool = ConceptPool.from_counts(counts, parser.version, params.minimum_count, {str(CAPTIONS): sha256_file(CAPTIONS)})
    if not pool.concepts:
        problem = f"none of {len(counts)} concepts occurs {params.minimum_count} times"
        raise InputError(problem, file=CAPTIONS, key="concepts.minimum_count", mend="lower it or give more captions")
    pool.save(OUT / "concepts.csv")
    covered = {dataset: _coverage(pool, dataset) for dataset in ("coco", "lvis")}
    write_json(OUT / "coverage.json", covered)
    return {
        "concepts": len(pool),
        "vocabulary": len(counts),
        "mentions": counts.total(),
        "kept_mentions": sum(pool.counts),
        "captions_skipped": images.skipped.total(),
        **{f"covered_{name}_{part}": covered[name][part]["fraction"] for name in covered for part in ("base", "novel")},
    }


def _coverage(pool: ConceptPool, dataset: str) -> dict[str, dict]:
    classes = load_classes(dataset)
    return {"base": coverage(pool, classes.base_names), "novel": coverage(pool, classes.novel_names)}
