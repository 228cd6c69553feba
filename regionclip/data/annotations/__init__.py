"""Annotation files of boxes, COCO and LVIS: read, cleaned, split, and what is true on a picture."""
