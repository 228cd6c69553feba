"""The offline RPN of COCO: ResNet-50 C4 on the boxes of 48 base classes."""

_base_ = [
    "./rpn_r50_c4.py",
    "./_base_/datasets/coco_rpn.py",
    "./_base_/schedules/rpn_90k.py",
    "./_base_/runtime.py",
]

custom_imports = dict(imports=["regionclip.engine.components"])
# MSRA's ImageNet weights under MMDetection's names.
model = dict(backbone=dict(init_cfg=dict(_delete_=True, type="Pretrained", checkpoint="weights/resnet50_msra.pth")))
