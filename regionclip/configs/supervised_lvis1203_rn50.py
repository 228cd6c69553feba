"""Fully supervised detection on LVIS with RN50: the transfer's settings with boxes of all 1203 classes."""

_base_ = [
    "./_base_/models/ov_mask_rcnn_rn50.py",
    "./_base_/datasets/lvis_1203.py",
    "./_base_/schedules/sgd_180k.py",
    "./_base_/runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=1203)))
custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/lvis1203_rn50.safetensors")]
