"""Open-vocabulary detection on LVIS with RN50x4 and masks: trained on 866 classes, tested on 1203."""

_base_ = ["./transfer_lvis866_rn50.py", "./_base_/models/rn50x4.py"]

model = dict(init_cfg=dict(folder="weights/regionclip_rn50x4"), **_base_.rn50x4_mask_detector)
custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/lvis1203_rn50x4.safetensors")]
