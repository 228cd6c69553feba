"""Metrics and their protocols, on plain data: annotation files, COCO result dicts and numpy arrays."""
