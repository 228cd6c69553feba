"""RegionCLIP of RN50 as a detector without fine-tuning: boxes stay as proposed; scores are class probabilities."""

_base_ = "../../ov_fast_rcnn_clip_rn50_c4.py"

custom_imports = dict(imports=["regionclip.engine.components"])
model = dict(roi_head=dict(bbox_head=dict(num_classes=65, with_reg=False)))
