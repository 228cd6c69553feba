"""Open-vocabulary Fast R-CNN on CLIP RN50-C4 and stored proposals: COCO's 48 base classes, official settings."""

model = dict(
    type="FastRCNN",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
        bgr_to_rgb=True,
    ),
    backbone=dict(type="CLIPResNetC4", layers=[3, 4, 6], width=64, frozen_stages=2),
    roi_head=dict(
        type="StandardRoIHead",
        shared_head=dict(type="CLIPRes5", blocks=3, width=64),
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0, aligned=True),
            out_channels=1024,
            featmap_strides=[16],
        ),
        bbox_head=dict(
            type="RegionEmbeddingHead",
            attention_pool=dict(spacial_dim=7, embed_dim=2048, num_heads=32, output_dim=1024),
            num_classes=48,
            cls_predictor_cfg=dict(type="TextEmbeddingClassifier", temperature=0.01),
            # Detectron2 limits how much a box may grow, not how much it may shrink.
            bbox_coder=dict(
                type="UpperClipBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]
            ),
            loss_cls=dict(type="FocalScaledCrossEntropy", gamma=0.5, background_weight=0.2),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type="RandomSampler", num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
            pos_weight=-1,
            debug=False,
        )
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001, nms=dict(type="nms", iou_threshold=0.5, split_thr=1001), max_per_img=100)),
)
