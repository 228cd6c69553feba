"""The programs ``regionclip`` and ``dvc`` without the seconds in which each imports other people's packages.

``serve`` imports them once and then forks a process for each call. Of the project's own modules it knows none, so a
stage still imports, and registers, all it needs by itself. Working folder, environment, output and exit code are the
caller's. Signals are not passed on: what is to be stopped is started by its real program.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PACKAGES = {
    # The package alone: with it, MMDetection finds mmcv-lite's operators.
    "regionclip": ("regionclip", "mmdet.models", "mmdet.datasets", "mmdet.evaluation", "mmengine.runner", "open_clip")
    + ("great_expectations", "matplotlib.pyplot", "mlflow.store.tracking.sqlalchemy_store", "textblob"),
    "dvc": ("dvc.cli", "dvc.commands.repro", "dvc.repo.graph", "dulwich.porcelain", "git"),
}

PROGRAM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    sys.exit(server.recv(1)[0])
"""


@contextmanager
def programs(folder: Path, environment: Mapping[str, str], *names: str) -> Iterator[str]:
    """Give a PATH whose first programs of these names are the quick ones; they lie in a folder, which is empty."""
    address = folder / "socket"
    for name in names:
        (folder / name).write_text(PROGRAM.format(python=sys.executable, name=name, address=str(address)))
        (folder / name).chmod(0o755)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, __file__, str(address), *names], env=environment, stderr=log, start_new_session=True
        )
    try:
        while not address.exists():
            assert server.poll() is None, (folder / "log").read_text()[-3000:]
            time.sleep(0.05)
        yield os.pathsep.join([str(folder), environment["PATH"]])
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def skip_metafiles() -> None:
    """Spare MMEngine the hundred metafiles of MMDetection that it reads for each config: none names a base config."""
    import mmdet
    from mmengine.config import Config

    bases, by_metafile = Path(mmdet.__file__).parent / ".mim/configs", Config._get_cfg_path

    def found(name: str, reader: str) -> tuple[str, str | None]:
        scope, _, base = name.partition("::")
        return (str(bases / base), scope) if base.startswith("_base_/") else by_metafile(name, reader)

    Config._get_cfg_path = staticmethod(found)


def serve(address: str, *names: str) -> None:
    """Answer calls at a socket, side by side, until the tests are gone; forked processes leave with SystemExit."""
    for package in (package for name in names for package in PACKAGES[name]):
        importlib.import_module(package)
    if "regionclip" in names:
        skip_metafiles()
    # What is here at the fork stays shared: a process that ends would visit, and so copy, every object of it.
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        server.settimeout(5)
        parent = os.getppid()
        while True:
            try:
                call, _ = server.accept()
            except TimeoutError:
                if os.getppid() != parent:
                    return
                continue
            if not os.fork():
                _answer(call)
            call.close()
            while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
                pass


def _answer(call: socket.socket) -> None:
    """Run a command in a process of its own, and send the byte of its exit code."""
    length, files, _, _ = socket.recv_fds(call, 4, 3)
    with call.makefile("rb") as stream:
        name, arguments, folder, environment = json.loads(stream.read(int.from_bytes(length, "big")))
    child = os.fork()
    if not child:
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [name, *arguments]
        sys.exit(importlib.import_module(f"{name}.cli").main(arguments))
    _, status = os.waitpid(child, 0)
    call.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))
    os._exit(0)


if __name__ == "__main__":
    serve(*sys.argv[1:])
