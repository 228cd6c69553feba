"""Parity with the official code: its weights through our reader and models, and our numbers beside its own."""

import regionclip.models  # noqa: F401  (registers our components)
