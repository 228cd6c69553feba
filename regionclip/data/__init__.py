"""Sources of images, captions and boxes."""
