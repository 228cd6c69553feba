"""Registers at the Prefect server: pools, limits, the deployments of prefect.yaml, automations; again at will.

`python -m flows.deploy`, beside `make serve` or with PREFECT_API_URL set. What an operator has set since then on pools
and limits stays.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.exceptions import ObjectNotFound
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
        limits = {stage.limit for stage in read_graph(ROOT).values() if stage.limit}
        made = [f"pool {name}" for name in ensure_pools(client)]
        made += [f"limit {name}" for name in ensure_limits(client, sorted(limits))]
    prefect = Path(sys.executable).parent / "prefect"
    subprocess.run([prefect, "--no-prompt", "deploy", "--all"], cwd=ROOT, check=True)
    made += [f"automation {name}" for name, change in ensure_automations().items() if change != "unchanged"]
    print(f"New or changed: {', '.join(made) or 'no pool, limit or automation'}.")


def ensure_pools(client: SyncPrefectClient) -> list[str]:
    """Make the work pools that are not there, of type process; return their names."""
    made = []
    for name in POOLS:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))
            made.append(name)
    return made


def ensure_limits(client: SyncPrefectClient, names: Iterable[str]) -> list[str]:
    """Make the global concurrency limits that are not there, for one device; return their names."""
    made = []
    for name in names:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=DEVICES))
            made.append(name)
    return made


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"deploy: {error}")
