"""Parity with the official code: its weights through our reader and models, and our numbers beside its own."""

# First of all: it gives mmcv-lite the operators that MMDetection imports, and registers our components.
import regionclip.models  # noqa: F401
