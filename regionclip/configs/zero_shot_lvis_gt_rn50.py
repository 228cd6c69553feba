"""Zero-shot detection on LVIS with RegionCLIP RN50 on the true boxes."""

_base_ = [
    "./_base_/models/zero_shot_rn50.py",
    "./_base_/datasets/lvis_zero_shot_gt.py",
    "./_base_/runtime.py",
]

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1203)),
    test_cfg=dict(rcnn=dict(score_thr=0.0001, max_per_img=300)),
)
custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/lvis1203_rn50.safetensors")]
