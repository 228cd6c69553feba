"""Zero-shot detection with true and with given boxes: runs ``zs_coco`` and ``zs_lvis``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from benchmarks.parity import detector
from benchmarks.parity.golden_folder import Arrays, GoldenFolder
from benchmarks.parity.probes import described, recorded, summary


@dataclass(frozen=True)
class Setting:
    """Test settings of a data set (official ``test_zeroshot_inference.sh``).

    Attributes:
        embeddings: Key of the class embeddings in the inputs.
        true_threshold: Least score with true boxes.
        threshold: Least score with proposals.
        top: Detections kept a picture.
    """

    embeddings: str
    true_threshold: float
    threshold: float
    top: int


SETTINGS = {"coco": Setting("emb_coco65", 0.001, 0.001, 100), "lvis": Setting("emb_lvis1203", 0.0001, 0.02, 300)}


@torch.no_grad()
def run(golden: GoldenFolder, dataset: str) -> Arrays:
    """Return every documented output of ``zs_<dataset>``."""
    setting = SETTINGS[dataset]
    embeddings = golden.inputs[setting.embeddings]
    checkpoint = golden.checkpoint(f"zs_{dataset}_rpn", {"roi_heads.box_predictor.cls_score.weight": embeddings})
    model = detector.build_detector(checkpoint, len(embeddings)).eval()
    # Zero-shot boxes stay as they are (official NO_BOX_DELTA); the deltas are recorded all the same.
    model.roi_head.bbox_head.with_reg = False
    images, data_samples = detector.preprocess(model, golden)
    stages = {"stem": "avgpool", "res2": "layer1", "res3": "layer2", "res4": "layer3"}
    with recorded({key: getattr(model.backbone, name) for key, name in stages.items()}) as calls:
        features = model.extract_feat(images)
    arrays = {"preproc": images.numpy()}
    for name in stages:
        arrays.update(described(name, calls[name][0].output, channels=8, side=12))
    true = test_config(setting.true_threshold, setting.top)
    given = test_config(setting.threshold, setting.top)
    metas = [sample.metainfo for sample in data_samples]
    truth = [InstanceData(bboxes=sample.gt_instances.bboxes) for sample in data_samples]
    proposals = [sample.proposals for sample in data_samples]
    arrays.update(_regions(model, features, metas, truth, {"gt": (StandardRoIHead, true)}))
    heads = {"rpn_nomult": (StandardRoIHead, given), "rpn_mult": (type(model.roi_head), given)}
    arrays.update(_regions(model, features, metas, proposals, heads))
    return arrays


def test_config(threshold: float, top: int) -> ConfigDict:
    """Return the settings of detection with hard NMS."""
    return detector.test_config(threshold, top, detector.HARD_NMS)


def _regions(
    model: BaseModel,
    features: tuple[Tensor, ...],
    metas: list[dict],
    proposals: list[InstanceData],
    runs: dict[str, tuple[type[StandardRoIHead], ConfigDict]],
) -> Arrays:
    """Embed ``proposals`` once, and detect with the head and the settings of each of ``runs``."""
    head, arrays = model.roi_head, {}
    with recorded(detector.region_modules(model)) as calls, detector.embedded_once(head, features, proposals):
        for name, (kind, config) in runs.items():
            raw, found = (
                kind.predict_bbox(head, features, metas, proposals, config, rescale=scaled) for scaled in (False, True)
            )
            arrays.update(detector.detections(f"{name}_", found, raw))
    tensors = {name: of_module[0].output for name, of_module in calls.items() if of_module}
    tensors["pool"] = tensors["pool"].pooled
    tensors["deltas"] = head.bbox_head.fc_reg(tensors["feats"])
    tensors["probs"] = tensors["logits"].softmax(dim=1)
    for name in runs:
        arrays.update(_described_regions(name, tensors))
    return arrays


def _described_regions(name: str, tensors: dict[str, Tensor]) -> Arrays:
    arrays = {}
    for step, channels in (("pool", 64), ("res5", 256)):
        arrays[f"{name}_{step}_summary"] = summary(tensors[step])
        arrays[f"{name}_{step}_first4"] = tensors[step][:4, :channels].numpy().copy()
    return arrays | {f"{name}_{key}": tensors[key].numpy() for key in ("feats", "logits", "deltas", "probs")}
