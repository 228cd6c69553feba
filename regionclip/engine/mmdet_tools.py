"""Run MMDetection's own tools/train.py and tools/test.py where mmcv-lite is installed: `python -m` this module."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import mmdet

_TOOLS = ("train", "test")


def main() -> None:
    """Run the tool that the first argument names with the other arguments."""
    if len(sys.argv) < 2 or sys.argv[1] not in _TOOLS:
        sys.exit("usage: python -m regionclip.engine.mmdet_tools {train,test} ARGUMENTS OF THE TOOL")
    tool = Path(mmdet.__file__).parent / ".mim" / "tools" / f"{sys.argv[1]}.py"
    sys.argv = [str(tool), *sys.argv[2:]]
    runpy.run_path(str(tool), run_name="__main__")


if __name__ == "__main__":
    main()
