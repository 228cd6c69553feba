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
    """All public sets but CC3M, which has no official archive."""
    data = profile_params(profile).data
    for about in filter(lambda of: of.public, data.sets.values()):
        for path in (about.files.instances_train, about.files.instances_val):
            with pytest.raises(InputError, match="the file does not exist.*To mend: run `regionclip data fetch "):
                read_boxes(path)
    if data.captions and data.captions.file != "datasets/cc3m":
        with pytest.raises(InputError, match="no captions.*regionclip data fetch .* --root datasets`"):
            open_captioned_images(data.captions.file, data.captions.images)
