"""Stage finetune: transfer CLIP and RegionCLIP to one data set's base classes, on stored proposals."""

from __future__ import annotations

from pathlib import Path

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.training_state import publish
from regionclip.contracts.leakage import assert_no_novel
from regionclip.data.detection import boxes_dataset, train_pipeline
from regionclip.data.layout import detection_set, load_classes
from regionclip.data.stream import StreamDataset
from regionclip.engine.training import train
from regionclip.models.assembly import build_detector
from regionclip.models.detector_settings import finetune_settings
from regionclip.stages.runner import StageContext
from regionclip.text.text_bank import TextBank
from regionclip.tracking.mlflow_run import track_model

MODELS = {"clip": Path("artifacts/teacher"), "regionclip": Path("artifacts/pretrain")}
BANKS, PROPOSALS, OUT = Path("artifacts/text_bank"), Path("artifacts/proposals"), Path("artifacts/finetune")
HISTORY = Path("artifacts/history")


def run(context: StageContext) -> None:
    """Write artifacts/finetune/DATASET/{clip,regionclip}.pth, trained alike."""
    dataset, params = context.dataset, context.params
    target, classes = getattr(params.finetune, dataset), load_classes(dataset)
    scenes = detection_set(dataset, "train")
    assert_no_novel(scenes.annotations, Path("data") / dataset / "classes.json")
    bank = TextBank.load(BANKS / f"{dataset}.safetensors").subset(classes.base_names)
    for name, folder in MODELS.items():
        clip = ClipFolder.open(folder)
        bank.require(width=clip.model_cfg["embed_dim"])
        settings = finetune_settings(params.finetune, target, len(bank.names))
        model = build_detector(clip, settings, params.finetune.frozen_stages)
        model.roi_head.bbox_head.fc_cls.set_vocabulary(bank.embeddings)
        pipeline = train_pipeline(params.detection, PROPOSALS / f"{dataset}_train")
        boxes = boxes_dataset(scenes, classes.base_names, pipeline, training=True)
        with track_model(name):
            trained = train(
                model,
                StreamDataset(boxes, params.seed),
                target.schedule,
                title=f"finetune {dataset} from {name}",
                seed=params.seed,
                scratch=context.scratch / name,
                history=HISTORY / f"finetune_{dataset}_{name}.jsonl",
            )
        meta = {"classes": list(bank.names), "clip_sha256": clip.weights_sha256, "bank_sha256": bank.sha256}
        publish(trained.state_dict(), OUT / dataset / f"{name}.pth", {**meta, "stage_digest": context.digest})
