"""Messages about what is missing name the command that fetches it, with the root that the path asks for."""

from __future__ import annotations

import pytest

from regionclip.data.annotations.annotation_files import read_boxes
from regionclip.data.captions import open_captioned_images
from regionclip.data.sources import fetch_command, mend_missing
from regionclip.errors import InputError
from tests.conftest import PAPER_PROFILES, profile_params


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("datasets/coco/annotations/instances_train2017.json", "regionclip data fetch coco2017 --root datasets"),
        ("/disk/coco/val2017", "regionclip data fetch coco2017 --root /disk"),
        ("lvis/lvis_v1_val.json", "regionclip data fetch lvis_v1 --root ."),
        ("a b/flickr30k/dataset_flickr30k.json", "regionclip data fetch flickr30k --root 'a b'"),
        ("datasets/cc3m", None),
        ("coco/train.json", None),
        ("instances_train2017.json", None),
    ],
)
def test_a_place_of_a_public_set_has_its_command(path: str, command: str | None) -> None:
    assert fetch_command(path) == command
    assert mend_missing(path, "look for it") == (f"run `{command}`, or mend the path" if command else "look for it")


@pytest.mark.parametrize("profile", PAPER_PROFILES)
def test_what_a_profile_of_the_paper_reads_has_a_command(profile: str) -> None:
    """All but CC3M, which has no official archive."""
    files = profile_params(profile).data.files
    for part in (files.coco, files.lvis):
        paths = [value for key, value in part.model_dump().items() if key.startswith("inst")] if part else []
        for path in paths:
            with pytest.raises(InputError, match="the file does not exist.*To mend: run `regionclip data fetch "):
                read_boxes(path)
    if files.captions and files.captions.file != "datasets/cc3m":
        with pytest.raises(InputError, match="no captions.*regionclip data fetch .* --root datasets`"):
            open_captioned_images(files.captions.file, files.captions.images)
