"""Stage check_pseudo_labels: the gate before pretraining, on everything that pretraining and transfer read."""

from __future__ import annotations

from typing import Any

import pandas as pd

from regionclip import artifacts
from regionclip.artifacts import CONCEPT_BANK, CONCEPT_POOL, LABEL_PROFILE, PSEUDO_LABELS, RPN, TEACHER
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.mmengine_files import read
from regionclip.contracts.captions import header_sizes
from regionclip.contracts.gate import Check, counts_of, gate
from regionclip.contracts.pages import label_page
from regionclip.contracts.regions import (
    label_profile,
    origin_check,
    proposal_checks,
    pseudo_label_checks,
    recall_check,
    rpn_class_check,
)
from regionclip.contracts.text import bank_check, concept_check, overlap_with_novel
from regionclip.data.annotations.annotation_files import read_boxes
from regionclip.data.captions import open_captioned_images
from regionclip.data.layout import captioned_scenes, data_sets, detection_set, load_classes, splits
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import read_json, sha256_file, write_json
from regionclip.regions.store import RegionStore
from regionclip.stages.context import StageContext
from regionclip.text.concepts import ConceptPool
from regionclip.text.text_bank import TextBank

STAGE = "check_pseudo_labels"
MOST_REGIONS = 5_000_000  # of a larger store the first ones are checked; a table of them takes about 1 GB
MOST_PROPOSALS = 300_000  # of each split; a fault of the RPN shows in each image


def run(context: StageContext) -> dict[str, Any]:
    """Check RPN, proposals, text banks, concept pool and pseudo labels; write reports/checks/check_pseudo_labels.json
    and label_profile.json (histograms of confidence and concepts), and Data Docs.

    Raises:
        InputError: The store of pseudo labels does not say its threshold.
        DataCheckFailed: An artefact breaks its contract (exit code 3).
    """
    novel = {dataset: load_classes(dataset).novel_names for dataset in data_sets()}
    recall = {dataset: read_json(artifacts.recall(dataset)) for dataset in novel}
    checks = [
        rpn_class_check(RPN, read(RPN)[1].get("classes", ()), context.params.rpn.dataset, novel),
        recall_check(recall, context.params.check_pseudo_labels.min_proposal_recall),
        *_proposal_checks(context.params.rpn.proposals),
    ]
    metrics: dict[str, Any] = {}
    pages: dict[str, str] = {}
    if context.params.pretrain.weights:
        checks += _bank_checks(None)
        write_json(LABEL_PROFILE, {})
    else:
        pool = ConceptPool.load(CONCEPT_POOL)
        labels, metrics = _label_checks(context, pool)
        checks += [concept_check(CONCEPT_POOL, pool), *_bank_checks(pool), *labels]
        profile = read_json(LABEL_PROFILE)
        pages["Labels"] = label_page(profile["confidence"], profile["concepts"])
    results = gate(STAGE, checks, pages=pages, tracker=context.tracker, verdict=artifacts.verdict(STAGE))
    return {**counts_of(results), **metrics}


def _proposal_checks(most: int) -> list[Check]:
    checks = []
    for dataset in data_sets():
        for split in splits(dataset):
            store = RegionStore.open(artifacts.proposals(dataset, split))
            regions = _first_regions(store, MOST_PROPOSALS)
            # Masks take most of the memory.
            boxes = read_boxes(detection_set(dataset, split).annotations, facts={"size"}, without={"segmentation"})
            images = pd.DataFrame(boxes.sound()["images"], columns=["id", "width", "height"])
            if len(regions) < store.num_regions:
                images = images[images["id"].isin(regions["image_id"])]
            checks += proposal_checks(store.path, regions, images, most)
    return checks


def _bank_checks(pool: ConceptPool | None) -> list[Check]:
    wanted = {artifacts.class_bank(dataset): load_classes(dataset).names for dataset in data_sets()}
    if pool is not None:
        wanted[CONCEPT_BANK] = pool.concepts
    width = ClipFolder.open(TEACHER).model_cfg["embed_dim"]
    return [bank_check(file, TextBank.load(file), names, width) for file, names in wanted.items()]


def _label_checks(context: StageContext, pool: ConceptPool) -> tuple[list[Check], dict[str, Any]]:
    """Return the checks of the pseudo labels and what is measured of them; write their histograms."""
    params, store = context.params.check_pseudo_labels, RegionStore.open(PSEUDO_LABELS)
    try:
        threshold = float(store.metadata["threshold"])
    except (KeyError, ValueError):
        mend = "run the stage `pseudo_labels` again"
        raise InputError("the key is missing or no number", file=store.path, key="threshold", mend=mend) from None
    # Real pictures that do not decode were set aside by the stage before, and are not in the store.
    tolerance = 0.0 if context.params.data.source == "demo" else context.params.quarantine.max_fraction
    regions = _first_regions(store, MOST_REGIONS)
    images = _scene_sizes(context, store, regions)
    profile = label_profile(regions, threshold)
    named = {pool.concepts[index]: count for index, count in profile["concepts"].items() if 0 <= index < len(pool)}
    novel = {dataset: overlap_with_novel(pool, load_classes(dataset).novel_names) for dataset in data_sets()}
    write_json(LABEL_PROFILE, {"confidence": profile["confidence"], "concepts": named, "novel_in_pool": novel})
    kept = float((regions["top_prob"] > threshold).mean()) if len(regions) else 0.0
    counts = {"regions": len(regions), "images": len(images), "kept_fraction": kept}
    origin = {
        "teacher_sha256": ClipFolder.open(TEACHER).weights_sha256,
        "bank_sha256": TextBank.load(CONCEPT_BANK).sha256,
        "rpn_sha256": sha256_file(RPN) if context.params.pseudo_labels.regions == "rpn" else "random regions",
    }
    checks = [
        origin_check(store.path, store.metadata, origin),
        *pseudo_label_checks(
            store.path,
            regions,
            images,
            pool_size=len(pool),
            threshold=threshold,
            min_kept_fraction=params.min_kept_fraction,
            max_regions=params.max_regions,
            tolerance=tolerance,
        ),
    ]
    return checks, {**counts, "concepts_seen": len(named)}


def _scene_sizes(context: StageContext, store: RegionStore, regions: pd.DataFrame) -> pd.DataFrame:
    """Return the sizes of the captioned images that the regions must cover: all, or those of the first regions."""
    captions, pictures = captioned_scenes()
    covered = set(regions["image_id"]) if len(regions) < store.num_regions else None
    with Rejects(artifacts.rejected(STAGE), context.params.quarantine.max_fraction) as rejects:
        records = open_captioned_images(captions, pictures, rejects)
        wanted = (record for record in records if covered is None or store.id_type(record.key) in covered)
        return header_sizes(wanted, store.id_type)


def _first_regions(store: RegionStore, most: int) -> pd.DataFrame:
    """Return the first regions of a store, whole images only."""
    regions = store.to_pandas(limit=most)
    if len(regions) < store.num_regions:
        # The last image may be cut.
        regions = regions[regions["image_id"] != regions["image_id"].iloc[-1]]
    return regions
