"""Fully supervised detection on LVIS with RN50x4: the transfer's settings with boxes of all 1203 classes."""

_base_ = ["./supervised_lvis1203_rn50.py", "./_base_/models/rn50x4.py"]

model = dict(init_cfg=dict(folder="weights/regionclip_rn50x4"), **_base_.rn50x4_mask_detector)
custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/lvis1203_rn50x4.safetensors")]
