"""Stage evaluate: the data set's protocol, all classes at once, for each initialisation."""

from __future__ import annotations

from typing import Any

from mmengine.dist import is_main_process
from mmengine.model import BaseModel

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.contracts.detections import detection_checks
from regionclip.contracts.gate import gate
from regionclip.data.annotations.truth import Truth, load_truth
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.detection import detect, trained_detector, true_box_top1
from regionclip.evaluation.detection_errors import error_numbers, judge, worst_examples
from regionclip.evaluation.detections import save_detections
from regionclip.evaluation.protocols import PROTOCOLS, measure
from regionclip.files import write_json
from regionclip.models.region_encoder import RegionEncoder, visual_state
from regionclip.stages.context import StageContext
from regionclip.text.text_bank import TextBank

_EXAMPLES = 4  # of each kind of mistake


def run(context: StageContext) -> dict[str, Any]:
    """Write artifacts/evaluate/DATASET/INITIALISATION.json, the detections; measure and check them, and what is left of
    the initialisation: ``true_boxes``, how many the fine-tuned encoder names right (zero_shot has those before).

    Raises:
        DataCheckFailed: Detections break their contract (exit code 3).
    """
    dataset, params = context.dataset, context.params
    split = params.evaluation.split
    bank = TextBank.load(artifacts.class_bank(dataset))
    target, classes = params.finetune.sets[dataset], load_classes(dataset)
    protocol = params.data.sets[dataset].protocol
    annotations = detection_set(dataset, split).annotations
    truth = load_truth(annotations, lvis=classes.federated, masks=target.masks) if is_main_process() else None
    metrics, checks = {}, []
    for name in params.finetune.initialisations:
        clip = ClipFolder.open(artifacts.CLIP_FOLDERS[name])
        bank.require(width=clip.model_cfg["embed_dim"])
        model = trained_detector(artifacts.FINETUNED / dataset / f"{name}.pth", clip, params.finetune, dataset)
        proposals = artifacts.proposals(dataset, split)
        with context.model_run(name) as run:
            found = detect(model, dataset, split, params.detection, proposals, bank, f"{dataset} from {name}")
            constrained = PROTOCOLS[protocol].constrained
            metrics[name] = _constrained(context, model, bank, name, truth) if constrained else {}
            encoder = _encoder(clip, model)
            kept = true_box_top1(encoder, model.data_preprocessor, dataset, split, params.detection, bank)
            if run is None:
                continue
            file = artifacts.DETECTIONS / dataset / f"{name}.json"
            save_detections(file, found)
            checks += detection_checks(file, found, truth, classes.ids, target.max_detections)
            judged = judge(protocol, truth, found, classes)
            examples = worst_examples(judged, truth, found, classes, _EXAMPLES)
            write_json(artifacts.worst_mistakes(dataset, name), [*examples])
            more = {"errors": error_numbers(judged, truth, found, classes), "true_boxes": kept}
            metrics[name] = measure(protocol, truth, found, classes) | more | metrics[name]
            run.log_metrics(metrics[name])
    if is_main_process():
        gate(f"detections_{dataset}", checks, tracker=context.tracker)
    return metrics


def _constrained(
    context: StageContext, model: BaseModel, bank: TextBank, name: str, truth: Truth | None
) -> dict[str, Any]:
    """Measure with only the novel and only the base classes in the vocabulary (the paper's "novel only")."""
    dataset, split, metrics = context.dataset, context.params.evaluation.split, {}
    proposals, classes = artifacts.proposals(dataset, split), load_classes(dataset)
    for group in ("novel", "base"):
        title = f"{dataset} from {name}, {group} only"
        found = detect(model, dataset, split, context.params.detection, proposals, bank, title, group)
        if truth is not None:
            protocol = context.params.data.sets[dataset].protocol
            metrics[f"constrained_{group}"] = measure(protocol, truth, found, classes, group)
    return metrics


def _encoder(clip: ClipFolder, model: BaseModel) -> RegionEncoder:
    """Return the encoder of a fine-tuned detector."""
    encoder, head = RegionEncoder.from_clip(clip.model().visual), model.roi_head
    parts = (head.shared_head, head.bbox_head.attention_pool) if encoder.res5 else ()
    encoder.load_visual_state_dict(visual_state(model.backbone, *parts))
    return encoder
