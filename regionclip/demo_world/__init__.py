"""The demo world: a generated world of coloured shapes that needs no download."""

from __future__ import annotations

from regionclip.demo_world.build import WorldSpec, build_demo_world

__all__ = ["WorldSpec", "build_demo_world"]
