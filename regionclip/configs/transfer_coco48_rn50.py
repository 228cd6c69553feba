"""Open-vocabulary detection on COCO with RN50: trained on 48 classes, tested on 65."""

_base_ = [
    "./_base_/models/ov_fast_rcnn_rn50.py",
    "./_base_/datasets/coco_ov.py",
    "./_base_/schedules/sgd_90k.py",
    "./_base_/runtime.py",
]

custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/coco65_rn50.safetensors")]
