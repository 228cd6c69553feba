"""Transfer to COCO: 90,000 steps of 16 pictures, SGD 0.002, warm-up of 5000 steps."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=90000, val_interval=25000)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.002, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=5000),
    dict(type="MultiStepLR", by_epoch=False, milestones=[60000, 80000], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
