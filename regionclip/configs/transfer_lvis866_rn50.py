"""Open-vocabulary detection on LVIS with RN50 and masks: trained on 866 classes, tested on 1203."""

_base_ = [
    "./_base_/models/ov_mask_rcnn_rn50.py",
    "./_base_/datasets/lvis_ov.py",
    "./_base_/schedules/sgd_180k.py",
    "./_base_/runtime.py",
]

custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/lvis1203_rn50.safetensors")]
