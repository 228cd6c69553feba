"""Steps that the data sets' pipelines share. Pillow reads and resizes, as in the official code: OpenCV differs."""

load_image = dict(type="LoadPicture")
load_boxes = dict(type="LoadAnnotations", with_bbox=True)
load_masks = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
# The shorter side of each pair, unless the longer would pass max_size; rounded as Detectron2 does.
random_resize_and_flip = [
    dict(
        type="RandomChoiceResize",
        scales=[(1333, 640), (1333, 672), (1333, 704), (1333, 736), (1333, 768), (1333, 800)],
        resize_type="ResizeShortSide",
        max_size=1333,
        backend="pillow",
    ),
    dict(type="RandomFlip", prob=0.5),
]
resize = [dict(type="ResizeShortSide", scale=800, max_size=1333, backend="pillow")]
pack = dict(type="PackDetInputs")
