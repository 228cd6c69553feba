"""LVIS v1 for open-vocabulary detection with masks: training on 866 base classes, test on all 1203."""

_base_ = "./lvis_classes.py"

train_pipeline = [
    _base_.load_image,
    _base_.load_masks,
    dict(type="LoadStoredProposals", store="data/proposals/lvis_train"),
    dict(type="ProposalBroadcaster", transforms=_base_.random_resize_and_flip),
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type="LoadStoredProposals", store="data/proposals/lvis_val"),
    dict(type="ProposalBroadcaster", transforms=_base_.resize),
    _base_.pack,
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    # Detectron2 draws the fraction of a repeat factor anew each epoch; MMDetection rounds it up.
    dataset=dict(
        type="ClassBalancedDataset",
        oversample_thr=1e-3,
        dataset=dict(
            type="NamedBoxesDataset",
            metainfo=dict(classes=_base_.LVIS_BASE),
            ann_file="data/lvis/annotations/lvis_v1_train_base866.json",
            # LVIS's pictures are COCO's; its addresses name the folder below.
            data_prefix=dict(img="datasets/coco/"),
            filter_cfg=dict(filter_empty_gt=True, min_size=0),
            pipeline=train_pipeline,
        ),
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="NamedBoxesDataset",
        metainfo=dict(classes=_base_.LVIS_ALL),
        ann_file="datasets/lvis/lvis_v1_val.json",
        data_prefix=dict(img="datasets/coco/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_dataloader = test_dataloader
test_evaluator = dict(
    type="FederatedLVISMetric",
    ann_file="datasets/lvis/lvis_v1_val.json",
    metric=["bbox", "segm"],
    max_detections=300,
    # As the official loader: pictures without annotations are left out.
    images="labelled",
)
val_evaluator = test_evaluator
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
