"""CLIP folders are open_clip's own, and are read strictly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from regionclip.checkpoints.clip_folder import CONFIG, MEAN, STD, WEIGHTS, ClipFolder, build_clip, save_clip
from regionclip.checkpoints.loading import load_strictly
from regionclip.errors import InputError


@pytest.fixture
def clip(clip_path: Path, tmp_path: Path) -> ClipFolder:
    """A copy of the tiny CLIP, to spoil."""
    return ClipFolder.open(shutil.copytree(clip_path, tmp_path / "clip"))


def test_weights_and_configuration_come_back(clip_path: Path, tmp_path: Path) -> None:
    """Saved from a model on disk, read back, the weights are the same bytes; lineage is in the metadata."""
    clip = ClipFolder.open(clip_path)
    model = clip.model()
    save_clip(tmp_path / "again", clip.model_cfg, model.state_dict(), {"stage_digest": "0" * 64})
    again = ClipFolder.open(tmp_path / "again")
    assert again.model_cfg == clip.model_cfg and again.weights_sha256 == clip.weights_sha256
    assert not any(module.training for module in model.modules())
    with safe_open(again.weights, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "stage_digest": "0" * 64}


def test_a_model_is_whole_though_no_weights_were_drawn(clip: ClipFolder) -> None:
    whole = build_clip(clip.model_cfg)
    load_strictly(whole, clip.state_dict(), clip.weights)
    model = clip.model()
    for tensors in ("named_parameters", "named_buffers"):
        expected = dict(getattr(whole, tensors)())
        assert all(torch.equal(value, expected.pop(name)) for name, value in getattr(model, tensors)())
        assert not expected


def test_open_clip_reads_the_folder_as_its_own(clip_path: Path) -> None:
    """Same features of images and texts, same tokens, same normalisation: QuickGELU and all."""
    ours, tokenizer = ClipFolder.open(clip_path).model(), ClipFolder.open(clip_path).tokenizer()
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{clip_path}")
    theirs.eval()
    tokens = tokenizer(["a red star", "two boats"])
    assert tokens.shape == (2, 16)
    assert torch.equal(open_clip.get_tokenizer(f"local-dir:{clip_path}")(["a red star", "two boats"]), tokens)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(theirs.encode_image(images), ours.encode_image(images))
        for length in ([3, 4], [7, 2], [16, 5]):
            prompts = [" ".join(["star"] * (words - 2)) for words in length]
            wanted = theirs.encode_text(tokenizer(prompts))
            torch.testing.assert_close(ours.encode_text(tokenizer(prompts)), wanted, rtol=1e-5, atol=1e-6)
    normalize = preprocess.transforms[-1]
    assert tuple(normalize.mean) == MEAN and tuple(normalize.std) == STD


def test_quick_gelu_is_not_forgotten(clip: ClipFolder) -> None:
    """With it the text features are other ones than without."""
    plain = build_clip(clip.model_cfg | {"quick_gelu": False})
    plain.load_state_dict(clip.state_dict())
    tokens = clip.tokenizer()(["a red star"])
    with torch.no_grad():
        assert not torch.allclose(plain.eval().encode_text(tokens), clip.model().encode_text(tokens), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("visual.conv1.weight"), "missing; 1 missing, 0 unexpected, 0 of another shape"),
        (lambda state: state.update(more=torch.ones(1)), "unexpected; 0 missing, 1 unexpected"),
        (
            lambda state: state.update({"text_projection": torch.ones(32, 16)}),
            r"another shape \(wanted \(32, 32\), got \(32, 16\)\); 0 missing, 0 unexpected, 1 of another shape",
        ),
    ],
    ids=["missing", "unexpected", "another shape"],
)
def test_weights_that_do_not_fit_are_refused_by_name(clip: ClipFolder, change, problem: str) -> None:
    state = clip.state_dict()
    before = set(state)
    change(state)
    save_file(state, clip.weights)
    with pytest.raises(InputError, match=problem) as caught:
        clip.model()
    (key,) = before ^ set(state) or {"text_projection"}
    assert caught.value.file == clip.weights and caught.value.key == key and caught.value.mend


def test_weights_of_another_clip_are_refused(clip: ClipFolder) -> None:
    narrow = build_clip(clip.model_cfg | {"vision_cfg": clip.model_cfg["vision_cfg"] | {"width": 8}})
    save_file(narrow.state_dict(), clip.weights)
    with pytest.raises(InputError, match="a checkpoint of another architecture"):
        clip.model()


@pytest.mark.parametrize("content", [None, b"", b"no weights", "half"])
def test_damaged_weights_are_named(clip: ClipFolder, content: bytes | str | None) -> None:
    weights = clip.weights
    whole = weights.read_bytes()
    weights.unlink()
    if content is not None:
        weights.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    problem = "cut short" if content is not None else "here are none"
    with pytest.raises(InputError, match=problem) as caught:
        clip.model()
    assert caught.value.file == (clip.path if content is None else clip.weights)


def test_folder_without_configuration_is_named(clip: ClipFolder) -> None:
    (clip.path / CONFIG).write_text("{}")
    with pytest.raises(InputError, match="key 'model_cfg': the key is missing"):
        ClipFolder.open(clip.path)
    (clip.path / CONFIG).unlink()
    with pytest.raises(InputError, match=f"{CONFIG}: the file does not exist"):
        ClipFolder.open(clip.path)


@pytest.mark.parametrize(
    ("key", "vision"),
    [
        ("timm_model_name", {"timm_model_name": "vit_base_patch16_siglip_224", "image_size": 224}),
        (
            "attentional_pool",
            {"layers": 12, "width": 768, "patch_size": 32, "image_size": 224, "attentional_pool": True},
        ),
        ("model_cfg.vision_cfg.image_size", {"layers": 12, "width": 768, "patch_size": 15, "image_size": 224}),
        ("model_cfg.vision_cfg.layers", {"layers": [3, 4], "width": 64, "image_size": 224}),
    ],
)
def test_clip_with_another_image_tower_is_refused(clip: ClipFolder, key: str, vision: dict) -> None:
    (clip.path / CONFIG).write_text(json.dumps({"model_cfg": clip.model_cfg | {"vision_cfg": vision}}))
    with pytest.raises(InputError) as caught:
        ClipFolder.open(clip.path)
    assert caught.value.key == key


def test_failed_save_leaves_the_old_folder(clip: ClipFolder) -> None:
    before = clip.weights_sha256
    with pytest.raises(AttributeError):
        save_clip(clip.path, clip.model_cfg, {"weight": None}, {})
    assert ClipFolder.open(clip.path).weights_sha256 == before
    assert sorted(path.name for path in clip.path.iterdir()) == [CONFIG, WEIGHTS]
    assert list(clip.path.parent.iterdir()) == [clip.path]


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        (None, "vision_cfg", 3),
        (None, "embed_dim", "32"),
        ("vision_cfg", "width", 0),
        ("vision_cfg", "layers", [1, 1, 1, "x"]),
        ("text_cfg", "heads", None),
        ("text_cfg", "new", {}),
        ("text_cfg", "width", 2000),  # of another size than the weights: refused before memory is taken
    ],
)
def test_a_configuration_of_which_no_clip_can_be_built_is_refused(
    clip: ClipFolder, part: str | None, key: str, value: object
) -> None:
    config = json.loads((clip.path / CONFIG).read_text())
    (config["model_cfg"] if part is None else config["model_cfg"][part])[key] = value
    (clip.path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(InputError, match="To mend"):
        ClipFolder.open(clip.path).model()


LAYOUTS = [
    "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth",
    "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
    "mine.safetensors", "mine.bin", "mine.pth",
]  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("form", ["plain", "custom_text", "wrapped"])
def test_every_folder_that_open_clip_opens_is_taken(clip: ClipFolder, name: str, form: str) -> None:
    """The features are those of open_clip's own reading."""
    state, clip_state = clip.state_dict(), clip.state_dict()
    clip.weights.unlink()
    config = json.loads((clip.path / CONFIG).read_text())
    if form == "custom_text":
        text = ("positional", "token", "transformer", "ln_final", "text_projection")
        state = {f"text.{key}" if key.startswith(text) else key: value for key, value in state.items()}
        config["model_cfg"]["custom_text"] = True
    if form == "wrapped":
        state = {f"module.{key}": value for key, value in state.items()}
        state["module.logit_scale"] = state["module.logit_scale"].reshape(1)
    (clip.path / CONFIG).write_text(json.dumps(config))
    if name.endswith(".safetensors"):
        save_file(state, clip.path / name)
    else:
        torch.save({"epoch": 1, "state_dict": state} if form == "wrapped" else state, clip.path / name)
    ours = ClipFolder.open(clip.path)
    assert ours.weights == clip.path / name
    assert all(torch.equal(value, clip_state[key]) for key, value in ours.state_dict().items())
    theirs = open_clip.create_model_from_pretrained(f"local-dir:{clip.path}", return_transform=False).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(theirs.encode_image(images), ours.model().encode_image(images))


def test_of_several_weights_open_clips_choice_is_taken_or_none(clip: ClipFolder) -> None:
    (clip.path / "model.pth").write_bytes(b"")
    assert ClipFolder.open(clip.path).weights.name == WEIGHTS
    (clip.path / "model.pth").unlink()
    clip.weights.rename(clip.path / "a.safetensors")
    (clip.path / "b.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"here are several, a.safetensors, b.bin") as caught:
        ClipFolder.open(clip.path).state_dict()
    assert WEIGHTS in caught.value.mend


class Opens:
    """Runs code when a reader of pickles is careless."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("ran"),))


def test_no_code_of_a_bin_file_is_run(clip: ClipFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip.path)
    clip.weights.unlink()
    torch.save({"visual.conv1.weight": Opens()}, clip.path / "open_clip_pytorch_model.bin")
    with pytest.raises(InputError, match="could run code"):
        ClipFolder.open(clip.path).state_dict()
    assert not (clip.path / "ran").exists()


ODD = st.none() | st.booleans() | st.integers(-2, 70) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=4)


@settings(max_examples=60)
@given(where=st.sampled_from(["", "vision_cfg", "text_cfg"]), key=st.integers(0, 4), value=ODD, extra=st.booleans())
def test_odd_configurations_are_named(clip: ClipFolder, where: str, key: int, value: object, extra: bool) -> None:
    config = {"model_cfg": json.loads(json.dumps(clip.model_cfg))}
    section = config["model_cfg"][where] if where else config["model_cfg"]
    section["timm_model_name" if extra else list(section)[key % len(section)]] = value
    (clip.path / CONFIG).write_text(json.dumps(config))
    try:
        ClipFolder.open(clip.path).model()
    except InputError as error:
        assert error.file in (clip.path / CONFIG, clip.weights) and error.mend
