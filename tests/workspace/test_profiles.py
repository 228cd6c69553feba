"""Profiles by name: composed of a base and what each changes, shown with comments, written over params.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from regionclip import cli
from regionclip.errors import InputError
from regionclip.params import load_params
from regionclip.workspace.profiles import PACKAGED, compose_profile, profile_text, profile_titles
from tests.conftest import PAPER_PROFILES

ROOT = Path(__file__).parents[2]


def _write(name: str, text: str) -> None:
    Path("profiles").mkdir(exist_ok=True)
    Path("profiles", f"{name}.yaml").write_text(text)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_committed_params_are_the_demo() -> None:
    """`regionclip profile demo -o` writes them."""
    assert (ROOT / "params.yaml").read_text() == profile_text("demo")


def test_profiles_are_a_base_and_what_each_changes() -> None:
    lines = {file.stem: len(file.read_text().splitlines()) for file in PACKAGED.glob("*.yaml")}
    assert max(lines[name] for name in PAPER_PROFILES) <= 10
    assert sum(lines.values()) + len((ROOT / "params.yaml").read_text().splitlines()) <= 1050
    assert all(profile_titles()[name].endswith((".", ")")) for name in PAPER_PROFILES)


@pytest.mark.parametrize("name", ["demo", "tiny", "tiny_vit", *PAPER_PROFILES])
def test_what_is_shown_reads_as_what_was_composed(name: str) -> None:
    """For readers of YAML 1.1 too."""
    values, text = compose_profile(name), profile_text(name)
    assert yaml.safe_load(text) == values
    Path("params.yaml").write_text(text)
    assert load_params("params.yaml").model_dump(mode="json", exclude_none=True) == _without_none(values)
    assert text.startswith(f"# {profile_titles()[name]}\nprofile: {name}\n") and "  # files and folders named" in text


def _without_none(values: object) -> object:
    if not isinstance(values, dict):
        return values
    return {key: _without_none(value) for key, value in values.items() if value is not None}


def test_own_profiles_change_those_of_the_package() -> None:
    _write("mine", "# My own.\ndefaults: [transfer_coco48_rn50, _part, _self_]\nrpn: {nms_iou: 0.6}  # mine\n")
    _write("_part", "rpn:\n  nms_iou: 0.5\n  proposals: 77  # of the part\n")
    assert profile_titles()["mine"] == "My own."
    theirs, values = compose_profile("transfer_coco48_rn50"), compose_profile("mine")
    assert (values["profile"], values["rpn"]["nms_iou"], values["rpn"]["proposals"]) == ("mine", 0.6, 77)
    assert values == theirs | {"profile": "mine", "rpn": theirs["rpn"] | {"nms_iou": 0.6, "proposals": 77}}
    assert "  proposals: 77              # of the part\n" in profile_text("mine")


def test_what_a_profile_names_is_listed_as_raw() -> None:
    _write("mine", "defaults: [demo, _self_]\nrpn: {weights: weights/mine.pth}\n")
    assert compose_profile("mine")["raw"] == {"rpn/weights": "weights/mine.pth"}


def test_a_file_without_defaults_is_taken_as_it_is() -> None:
    _write("whole", "seed: 1  # mine\n")
    assert profile_text("whole") == "seed: 1  # mine\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("defaults: [nobody, _self_]\n", "no profile can be made of it .*Could not load 'nobody'"),
        ("defaults: [demo, _self_]\nseed: ${nothing}\n", "no profile can be made of it .*'nothing' not found"),
        ("defaults: [demo, _self_]\nseed: [\n", "no profile can be made of it"),
        ("defaults: [demo, _self_]\nrpn: {colour: red}\n", "key 'rpn.colour': unknown key"),
    ],
)
def test_faults_name_the_file(text: str, problem: str) -> None:
    _write("mine", text)
    with pytest.raises(InputError, match=problem) as caught:
        profile_text("mine")
    assert caught.value.file == Path("profiles/mine.yaml")


TOYS = "files: {instances_train: t.json, instances_val: v.json, images_train: p, images_val: p}"


def test_a_set_of_files_alone_has_the_rest_of_each_set_and_the_comments_of_the_first() -> None:
    """Beside the demo's; what the profile says itself stays."""
    _write("mine", f"# My own.\ndefaults: [demo, _small_sets, _self_]\ndata: {{sets: {{toys: {{{TOYS}}}}}}}\n")
    values, text = compose_profile("mine"), profile_text("mine")
    assert list(values["data"]["sets"]) == list(values["finetune"]["sets"]) == ["coco", "lvis", "toys"]
    assert values["data"]["sets"]["toys"]["protocol"] == "closed_set"
    assert values["data"]["sets"]["lvis"] == compose_profile("demo")["data"]["sets"]["lvis"]
    assert values["finetune"]["sets"]["toys"]["schedule"]["iterations"] == 3000
    toys = text.partition("    toys:\n")[2].partition("  captions:")[0]
    assert "# of the annotation files; or lvis" in toys and "official loader" not in toys


@pytest.mark.parametrize(
    ("each", "toys"), [("3", f"{{{TOYS}}}"), ("{data: {format: coco}}", f"{{{TOYS}}}"), (None, "null")]
)
def test_what_cannot_be_given_to_each_set_is_named(each: str | None, toys: str) -> None:
    own = "" if each is None else f"each_set: {each}\n"
    base = "demo" if each else "demo, _small_sets"
    _write("mine", f"# x\ndefaults: [{base}, _self_]\ndata: {{sets: {{toys: {toys}}}}}\n{own}")
    with pytest.raises(InputError, match=r"mine\.yaml, key 'each_set': .*To mend: let data, zero_shot and finetune"):
        profile_text("mine")


def test_another_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match="no such profile 'x'. To mend: there are cityscapes_foggy_rn50, coco_eva_b16"):
        profile_text("x")


def test_the_command_lists_shows_and_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == sorted(["demo", "tiny", "tiny_vit", *PAPER_PROFILES])
    assert cli.main(["profile", "tiny"]) == 0
    assert capsys.readouterr().out == profile_text("tiny") and not Path("params.yaml").exists()
    assert cli.main(["profile", "tiny", "-o"]) == cli.main(["profile", "tiny", "--write"]) == 0
    assert capsys.readouterr().out == "params.yaml: tiny\n" * 2 and not Path("params.yaml.before").exists()
    Path("params.yaml").write_text("mine")
    assert cli.main(["profile", "demo", "-o"]) == 0
    assert capsys.readouterr().out == "params.yaml: demo; what was there is in params.yaml.before\n"
    assert Path("params.yaml.before").read_text() == "mine" and load_params().profile == "demo"
    assert cli.main(["profile", "-o"]) == 2 and "no profile is named" in capsys.readouterr().err
