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
import socket
import sys
from pathlib import Path

# The package alone: with it, MMDetection finds mmcv-lite's operators.
PACKAGES = ("regionclip", "mmdet.models", "mmdet.datasets", "mmdet.evaluation", "mmengine.runner", "open_clip")
PACKAGES += (
    "dvc.cli",
    "dvc.commands.repro",
    "dvc.repo.graph",
    "dulwich.porcelain",
    "git",
    "great_expectations",
    "matplotlib.pyplot",
    "mlflow.store.tracking.sqlalchemy_store",
    "textblob",
)

PROGRAM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    sys.exit(server.recv(1)[0])
"""


def write_programs(folder: Path, address: Path) -> None:
    """Write ``regionclip`` and ``dvc``, which ask the server at a socket, into a folder for the PATH."""
    for name in ("regionclip", "dvc"):
        program = folder / name
        program.write_text(PROGRAM.format(python=sys.executable, name=name, address=str(address)))
        program.chmod(0o755)


def serve(address: str) -> None:
    """Answer calls at a socket, side by side, until the tests are gone; forked processes leave with SystemExit."""
    for package in PACKAGES:
        importlib.import_module(package)
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
    serve(sys.argv[1])
