"""No secret is in a tracked file of infra/: secrets come from the environment, and the examples leave them empty."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "infra").rglob("*") if path.is_file() and path.name != ".env")
_REQUIRED = re.compile(r"\$\{\w+:\?[^}]*\}")  # Compose stops without this variable
_HOLDS_ONE = r"\w*(?:PASSWORD|PASSWD|SECRET|TOKEN|AUTH|KEY)\w*"
# NAME: value and NAME=value; a name in small letters counts at the start of a line, as in YAML and INI.
SECRET = re.compile(rf"(\b{_HOLDS_ONE}|^[\s-]*(?i:{_HOLDS_ONE}))[\"']?[ \t]*[:=][ \t]*([^\n]*)", re.MULTILINE)
# Required of the environment; a reference of Kubernetes; a variable of psql; a file; a setting that is no secret.
BY_REFERENCE = re.compile(
    r"""$|<required>|\{name:\ regionclip-\w+,\ key:|'\w+_password';$|/etc/regionclip/|true|false$|public$"""
    r"""|mlflow\.server\.auth:""",
    re.VERBOSE,
)
# Written as such: in an address, in SQL, or in a form that a provider gives its keys.
WRITTEN = re.compile(
    r"""://[^/\s:@"']+:(?!<required>)[^@\s"']+@|(?i:password\s+'[^']+')|AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}"""
    r"""|xox[bap]-|-----BEGIN\ [A-Z\ ]*PRIVATE\ KEY|eyJ[\w-]{20,}\.""",
    re.VERBOSE,
)


def written_secrets(text: str) -> list[str]:
    """Return what holds a secret's value instead of a reference to it."""
    text = _REQUIRED.sub("<required>", text)
    found = [match[0] for match in SECRET.finditer(text) if not BY_REFERENCE.match(match[2])]
    return found + [match[0] for match in WRITTEN.finditer(text)]


def entropy(text: str) -> float:
    """Return Shannon's entropy of the letters, in bits a letter."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_secrets_are_named_by_reference_only(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith(("#", ";", "--"))]
    assert not written_secrets("\n".join(lines))
    for word in re.findall(r"[A-Za-z0-9+/_]{32,}", "\n".join(lines)):
        assert "_" in word or "/" in word or entropy(word) < 3.5, word


def test_the_patterns_see_the_secrets_of_compose() -> None:
    seen = {match[1].strip() for match in SECRET.finditer((ROOT / "infra/compose.yaml").read_text())}
    assert {"POSTGRES_PASSWORD", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING"} <= seen


@pytest.mark.parametrize(
    "line",
    [
        "POSTGRES_PASSWORD: hunter2",
        'AWS_SECRET_ACCESS_KEY="abc"',
        "Environment=PREFECT_AUTH=admin:pass",
        "admin_password = 1234",
        "  - api_token: 1a",
        "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:-postgres}",
        "url: postgresql://mlflow:mlflow@postgres/mlflow",
        "CREATE ROLE mlflow LOGIN PASSWORD 'mlflow';",
        "AKIA" + "A" * 16,
    ],
)
def test_the_patterns_find_what_is_no_reference(line: str) -> None:
    assert written_secrets(line)


def test_git_ignores_the_filled_in_file() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_examples_leave_secrets_empty() -> None:
    for path in (ROOT / "infra/secrets.example").glob("*.env"):
        assert all(line.endswith("=") for line in path.read_text().splitlines()), path
