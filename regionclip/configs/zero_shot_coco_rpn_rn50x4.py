"""Zero-shot detection on COCO with RegionCLIP RN50x4 on the proposals of an RPN trained on LVIS's base classes."""

_base_ = ["./zero_shot_coco_rpn_rn50.py", "./_base_/models/rn50x4.py"]

model = _base_.rn50x4_detector
custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/coco65_rn50x4.safetensors")]
