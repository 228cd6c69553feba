"""One fine-tuning step on COCO's base classes, and detection of all 65: run ``ft_coco``."""

from __future__ import annotations

import numpy as np
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmengine.model import BaseModel
from torch import Tensor

from benchmarks.parity import detector
from benchmarks.parity.golden_folder import Arrays, GoldenFolder
from benchmarks.parity.gradients import gradient_norms
from benchmarks.parity.probes import recorded
from regionclip.models.losses import FocalScaledCrossEntropy

_PREDICTOR = "roi_heads.box_predictor."


def run(golden: GoldenFolder) -> Arrays:
    """Return every documented output of ``ft_coco``. Detection comes first: it is of the weights before the step."""
    given = {
        _PREDICTOR + "cls_score.weight": golden.inputs["emb_coco48"],
        _PREDICTOR + "test_cls_score.weight": golden.inputs["emb_coco65"],
    }
    checkpoint = golden.checkpoint("ft_coco", given)
    model = detector.build_detector(checkpoint, num_classes=48)
    classifier = model.roi_head.bbox_head.fc_cls
    classifier.set_vocabulary(checkpoint.parts["heads"][_PREDICTOR + "test_cls_score.weight"])
    arrays = _detections(model.eval(), golden)
    classifier.set_vocabulary(checkpoint.parts["heads"][_PREDICTOR + "cls_score.weight"])
    trainable = [key for key, entry in golden.keys("ft_coco").items() if entry["trainable"]]
    return arrays | _step(model.train(), golden, trainable)


@torch.no_grad()
def _detections(model: BaseModel, golden: GoldenFolder) -> Arrays:
    head, arrays = model.roi_head, {}
    images, data_samples = detector.preprocess(model, golden)
    features, proposals = model.extract_feat(images), [sample.proposals for sample in data_samples]
    metas = [sample.metainfo for sample in data_samples]
    # COCO's setting leaves objectness out, so prediction is the stock one.
    with detector.embedded_once(head, features, proposals):
        for prefix, nms in (("test_", detector.HARD_NMS), ("test_softnms_", detector.SOFT_NMS)):
            config = detector.test_config(0.001, 100, nms)
            found = StandardRoIHead.predict_bbox(head, features, metas, proposals, config, rescale=True)
            arrays.update(detector.detections(prefix, found))
    return arrays


def _step(model: BaseModel, golden: GoldenFolder, trainable: list[str]) -> Arrays:
    images, data_samples = detector.preprocess(model, golden, training=True)
    order = torch.cat(
        [_indexed(i, torch.cat([s.proposals.bboxes, s.gt_instances.bboxes])) for i, s in enumerate(data_samples)]
    )
    modules = detector.region_modules(model) | {"loss": model.roi_head.bbox_head.loss_cls}
    with recorded(modules) as calls:
        losses = model(images, data_samples, mode="loss")
    logits, labels = calls["loss"][0].args[:2]
    lvis_style = FocalScaledCrossEntropy(gamma=0, background_weight=0.8, average="weights")
    arrays = {
        "loss_cls": _scalar(losses["loss_cls"]),
        "loss_box_reg": _scalar(losses["loss_bbox"]),
        "loss_cls_lvis_style": _scalar(lvis_style(logits, labels)),
    }
    rows = _rows(calls["pool"][0].args[1], order)
    arrays.update({key: calls[key][0].output[rows].detach().numpy() for key in ("feats", "logits", "deltas")})
    parameters = detector.official_parameters(model, trainable)
    optimizer = torch.optim.SGD(parameters.values(), lr=0.002, momentum=0.9, weight_decay=1e-4)
    model.parse_losses(losses)[0].backward()
    arrays.update(gradient_norms("ft", parameters))
    optimizer.step()
    for name, parameter in parameters.items():
        arrays[f"ft_after_step|{name}"] = parameter.detach().flatten()[:256].numpy().copy()
    return arrays


def _scalar(loss: Tensor) -> np.ndarray:
    return np.array(float(loss))


def _indexed(image: int, boxes: Tensor) -> Tensor:
    return torch.cat([boxes.new_full((len(boxes), 1), image), boxes], dim=1)


def _rows(sampled: Tensor, wanted: Tensor) -> np.ndarray:
    """Return where each of ``wanted`` (N, 5) stands in ``sampled``, the same rows in the sampler's order."""
    by_row = [np.lexsort(rois.detach().numpy().T) for rois in (sampled, wanted)]
    rows = np.empty(len(wanted), dtype=np.int64)
    rows[by_row[1]] = by_row[0]
    assert torch.equal(sampled[torch.from_numpy(rows)], wanted), "the sampler kept other regions"
    return rows
