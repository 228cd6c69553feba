"""Every path of the pipeline's files, from the folder that holds dvc.yaml; a test compares them with it."""

from __future__ import annotations

from pathlib import Path

DATA = Path("data")
SETS = DATA / "sets"
PAIRS = DATA / "pairs"
SCENES_MANIFEST = DATA / "scenes/manifest.json"
SCENES_TRUTH = DATA / "scenes_truth/instances.json"
DATA_REJECTED = DATA / "rejected"

RAW = Path("artifacts/raw")
CONCEPTS = Path("artifacts/concepts")
CONCEPT_POOL = CONCEPTS / "concepts.csv"
TEACHER = Path("artifacts/teacher")
TEXT_BANKS = Path("artifacts/text_bank")
CONCEPT_BANK = Path("artifacts/concept_bank/concepts.safetensors")
RPN = Path("artifacts/rpn/rpn.pth")
PROPOSALS = Path("artifacts/proposals")
PSEUDO_LABELS = Path("artifacts/pseudo_labels")
PSEUDO_BOXES = Path("artifacts/pseudo_boxes")
GATES = Path("artifacts/gates")
PRETRAINED = Path("artifacts/pretrain")
FINETUNED = Path("artifacts/finetune")
DETECTIONS = Path("artifacts/evaluate")
HISTORIES = Path("artifacts/history")
SIDECARS = Path("artifacts/runs")

REPORTS = Path("reports")
CHECKS = REPORTS / "checks"
BOX_PROFILE = CHECKS / "box_profile.json"
LABEL_PROFILE = CHECKS / "label_profile.json"
DATA_DOCS = REPORTS / "data_docs"
METRICS = REPORTS / "metrics"
REJECTED = REPORTS / "rejected"
SUMMARY = REPORTS / "summary.json"
SUMMARY_TABLE = REPORTS / "summary.md"
PLOTS = REPORTS / "plots"
PAGE = REPORTS / "index.html"

BEST = "best"
"""Folder beside the last weights of a training that validates: the best ones, under the same name."""

CLIP_FOLDERS = {"clip": TEACHER, "regionclip": PRETRAINED}
"""Initialisation of a detector to the CLIP folder that it starts from."""


def file_name(stage: str) -> str:
    """Return what files of a stage are called: ``finetune_coco`` for ``finetune@coco``."""
    return stage.replace("@", "_")


def sidecar(stage: str) -> Path:
    """Return the file that says which MLflow run made a stage's outputs."""
    return SIDECARS / f"{file_name(stage)}.json"


def metrics(stage: str) -> Path:
    """Return the file of a stage's numbers."""
    return METRICS / f"{file_name(stage)}.json"


def annotations(split: str) -> Path:
    """Return where a split's annotations lie in the folder of its data set."""
    return Path("annotations") / f"{split}.json"


def class_bank(dataset: str) -> Path:
    """Return the text embeddings of a data set's classes."""
    return TEXT_BANKS / f"{dataset}.safetensors"


def proposals(dataset: str, split: str) -> Path:
    """Return the region store of a split's proposals."""
    return PROPOSALS / dataset / split


def pseudo_boxes(dataset: str, initialisation: str) -> Path:
    """Return the objects of novel classes that a CLIP found in the training pictures, a COCO file."""
    return PSEUDO_BOXES / dataset / f"{initialisation}.json"


def recall(dataset: str) -> Path:
    """Return the file of the proposals' average recall by split."""
    return PROPOSALS / dataset / "recall.json"


def worst_mistakes(dataset: str, initialisation: str) -> Path:
    """Return the examples of each kind of mistake among a detector's detections."""
    return DETECTIONS / dataset / "worst" / f"{initialisation}.json"


def calibration(dataset: str, initialisation: str) -> Path:
    """Return how often a detector is right at which score; no stage makes it."""
    return Path("artifacts/calibration") / dataset / f"{initialisation}.json"


def verdict(stage: str) -> Path:
    """Return what a gate writes when it passes, always the same: later stages depend on that it passed."""
    return GATES / f"{stage}.json"


def rejected(stage: str) -> Path:
    """Return the list of the captioned images that a stage set aside."""
    return REJECTED / f"{stage}_rejected.jsonl"
