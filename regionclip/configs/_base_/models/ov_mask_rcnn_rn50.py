"""The same for LVIS: masks, scores times objectness, weighted cross-entropy without the focal scale."""

_base_ = "../../ov_mask_rcnn_clip_rn50_c4.py"

custom_imports = dict(imports=["regionclip.engine.components"])
model = dict(
    init_cfg=dict(type="CLIPPretrained", folder="weights/regionclip_rn50"),
    roi_head=dict(
        type="ProposalScoreRoIHead",
        score_mode="official",
        bbox_head=dict(num_classes=866, loss_cls=dict(gamma=0.0, background_weight=0.8, average="weights")),
    ),
    test_cfg=dict(
        rcnn=dict(
            score_thr=0.02,
            nms=dict(type="soft_nms", method="gaussian", sigma=0.5, iou_threshold=0.5, min_score=0.001),
            max_per_img=300,
        )
    ),
)
