"""MMDetection's own tools run from a fresh process, where only mmcv-lite is installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from regionclip.engine import mmdet_tools


def test_tool_starts() -> None:
    """The help of tools/test.py appears; run by itself it stops at `mmcv.ops`, which mmcv-lite lacks."""
    command = [sys.executable, "-W", "ignore", "-m", "regionclip.engine.mmdet_tools", "test", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--cfg-options" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["browse"]])
def test_unknown_tool(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything but train and test is refused with the usage."""
    monkeypatch.setattr(sys, "argv", ["mmdet_tools", *arguments])
    with pytest.raises(SystemExit, match=r"usage: .*\{train,test\}"):
        mmdet_tools.main()
