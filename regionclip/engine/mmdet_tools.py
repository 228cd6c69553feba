"""What MMDetection's own tools need: all that exported configs name, and a way to run them where mmcv is mmcv-lite.

``python -m regionclip.engine.mmdet_tools {train,test} ARGUMENTS`` runs MMDetection's tools/train.py or tools/test.py.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import mmdet

from regionclip.checkpoints.mmengine_files import register_safe_loader
from regionclip.data.datasets import detection, image_text  # noqa: F401  (registered, as what follows)
from regionclip.engine import exported, training  # noqa: F401

_TOOLS = ("train", "test")

# MMEngine's own reader (0.10.7) cannot read MMEngine's checkpoints without running the code in them.
register_safe_loader()


def main() -> None:
    """Run the tool that the first argument names with the other arguments."""
    if len(sys.argv) < 2 or sys.argv[1] not in _TOOLS:
        sys.exit("usage: python -m regionclip.engine.mmdet_tools {train,test} ARGUMENTS OF THE TOOL")
    tool = Path(mmdet.__file__).parent / ".mim" / "tools" / f"{sys.argv[1]}.py"
    sys.argv = [str(tool), *sys.argv[2:]]
    runpy.run_path(str(tool), run_name="__main__")


if __name__ == "__main__":
    main()
