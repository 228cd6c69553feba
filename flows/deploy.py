"""Registers at the Prefect server: pools, limits, the deployments of prefect.yaml, automations; again at will.

`python -m flows.deploy`, beside `make serve` or with PREFECT_API_URL set. What an operator has set since then on pools
and limits stays.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings

from flows.automations import ensure_automations
from regionclip.errors import InputError
from regionclip.stages.graph import read_graph

ROOT = Path(__file__).parents[1]
POOLS = ("cpu", "gpu")
DEVICES = 1  # slots of a new limit; `prefect gcl update gpu --limit N` sets how many GPUs there are


def main() -> None:
    """Register everything and print what was new.

    Raises:
        InputError: No server is named; Prefect would start one of its own, which ends with this program.
    """
    if not get_current_settings().api.url:
        raise InputError("there is no Prefect server", key="PREFECT_API_URL", mend="run `make serve`, or set it")
    with get_client(sync_client=True) as client:
        pools = [WorkPoolCreate(name=name, type="process") for name in POOLS]
        made = [f"pool {pool.name}" for pool in pools if _is_new(client.create_work_pool, pool)]
        names = sorted({stage.limit for stage in read_graph(ROOT).values() if stage.limit})
        limits = [GlobalConcurrencyLimitCreate(name=name, limit=DEVICES) for name in names]
        made += [f"limit {limit.name}" for limit in limits if _is_new(client.create_global_concurrency_limit, limit)]
        prefect = Path(sys.executable).parent / "prefect"
        subprocess.run([prefect, "--no-prompt", "deploy", "--all"], cwd=ROOT, check=True)
        made += [f"automation {name}" for name, change in ensure_automations(client).items() if change != "unchanged"]
    print(f"New or changed: {', '.join(made) or 'no pool, limit or automation'}.")


def _is_new(create: Callable[[Any], object], wanted: Any) -> bool:
    """Make what is not there, and say so."""
    try:
        create(wanted)
    except ObjectAlreadyExists:
        return False
    return True


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"deploy: {error}")
