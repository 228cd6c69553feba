"""Data sets of the user's own: checked, described by a profile, and converted from Pascal VOC and YOLO."""
