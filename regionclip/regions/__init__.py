"""Regions of images: proposals, their labels, and the store that keeps them."""
