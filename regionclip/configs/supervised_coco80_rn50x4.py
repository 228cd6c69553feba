"""Fully supervised detection on COCO with RN50x4: the transfer's settings with boxes of all 80 classes."""

_base_ = ["./supervised_coco80_rn50.py", "./_base_/models/rn50x4.py"]

model = dict(init_cfg=dict(folder="weights/regionclip_rn50x4"), **_base_.rn50x4_detector)
custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/coco80_rn50x4.safetensors")]
