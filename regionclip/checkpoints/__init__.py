"""Checkpoints: CLIP folders, published detectors, resumable training state."""
