"""Stage concepts: captions of the scenes to the pool of noun concepts."""

from __future__ import annotations

from typing import Any

from regionclip import artifacts, runtime
from regionclip.data.captions import open_captioned_images
from regionclip.data.layout import captioned_scenes, data_sets, load_classes
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import atomic_dir, sha256_file, write_json
from regionclip.stages.context import StageContext
from regionclip.text.concepts import ConceptPool
from regionclip.text.coverage import coverage, write_table
from regionclip.text.parser import build_parser, count_concepts
from regionclip.text.spelling import mend_spellings, write_misspellings

# Starting processes that load the lexicon takes seconds; below this many bytes one process is faster.
_WORTH_PROCESSES = 50_000_000


def run(context: StageContext) -> dict[str, Any]:
    """Write artifacts/concepts: concepts.csv and .json (the pool), misspellings.csv (what was merged), coverage.json
    and .csv (which class names the pool holds, under which spelling, how often).
    """
    if context.params.pretrain.weights:
        with atomic_dir(artifacts.CONCEPTS):
            return context.not_needed("pretrain.weights is given")
    params = context.params.concepts
    parser = build_parser(params.parser, params.modifiers)
    captions, pictures = captioned_scenes()
    files = captions.rglob("*") if captions.is_dir() else [captions]
    size = sum(file.stat().st_size for file in files if file.is_file())
    workers = runtime.workers() if size > _WORTH_PROCESSES else 0
    with Rejects(artifacts.rejected("concepts"), context.params.quarantine.max_fraction) as rejects:
        images = open_captioned_images(captions, pictures, rejects)
        counts = count_concepts(images.iter_captions(), parser, workers)
    misspellings = mend_spellings(counts)
    # To sum hundreds of gigabytes of shards takes long; their manifest lists their names and sizes.
    source = {str(captions): sha256_file(artifacts.SCENES_MANIFEST if images.shards else images.path)}
    pool = ConceptPool.from_counts(counts, parser.version, params.minimum_count, source)
    if not pool.concepts:
        problem = f"none of {len(counts)} concepts occurs {params.minimum_count} times"
        raise InputError(problem, file=captions, key="concepts.minimum_count", mend="lower it or give more captions")
    covered: dict[str, dict[str, Any]] = {}
    for dataset in data_sets():
        classes = load_classes(dataset)
        groups = {"base": classes.base_names, "novel": classes.novel_names}
        covered[dataset] = {group: coverage(names, counts, params.minimum_count) for group, names in groups.items()}
    with atomic_dir(artifacts.CONCEPTS) as folder:
        pool.save(folder / "concepts.csv")
        write_misspellings(misspellings, folder / "misspellings.csv")
        write_json(folder / "coverage.json", covered)
        write_table(covered, folder / "coverage.csv")
    return {
        "concepts": len(pool),
        "vocabulary": len(counts),
        "mentions": counts.total(),
        "kept_mentions": sum(pool.counts),
        "misspellings": len(misspellings),
        "misspelled_mentions": sum(misspelling.mentions for misspelling in misspellings),
        "captions_skipped": images.skipped.total(),
        **{f"covered_{name}_{part}": covered[name][part]["fraction"] for name in covered for part in ("base", "novel")},
    }
