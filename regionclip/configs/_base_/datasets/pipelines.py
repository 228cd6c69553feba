"""Steps that the data sets' pipelines share. Pillow reads and resizes, as in the official code: OpenCV differs."""

load_image = dict(type="LoadImageFromFile", imdecode_backend="pillow")
load_boxes = dict(type="LoadAnnotations", with_bbox=True)
load_masks = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
random_resize_and_flip = [
    dict(
        type="RandomChoiceResize",
        scales=[(1333, 640), (1333, 672), (1333, 704), (1333, 736), (1333, 768), (1333, 800)],
        keep_ratio=True,
        backend="pillow",
    ),
    dict(type="RandomFlip", prob=0.5),
]
resize = [dict(type="Resize", scale=(1333, 800), keep_ratio=True, backend="pillow")]
pack = dict(type="PackDetInputs")
