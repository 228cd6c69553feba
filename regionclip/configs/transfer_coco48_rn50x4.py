"""Open-vocabulary detection on COCO with RN50x4: trained on 48 classes, tested on 65."""

_base_ = ["./transfer_coco48_rn50.py", "./_base_/models/rn50x4.py"]

model = dict(init_cfg=dict(folder="weights/regionclip_rn50x4"), **_base_.rn50x4_detector)
custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/coco65_rn50x4.safetensors")]
