"""Fully supervised detection on COCO with RN50: the transfer's settings with boxes of all 80 classes."""

_base_ = [
    "./_base_/models/ov_fast_rcnn_rn50.py",
    "./_base_/datasets/coco_80.py",
    "./_base_/schedules/sgd_90k.py",
    "./_base_/runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))
custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/coco80_rn50.safetensors")]
