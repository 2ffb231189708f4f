"""What is called as Python is, and has a warm one do the work: see warm_python.py.

    warm_client.py FOLDER PYTHON ARGUMENTS...

FOLDER holds the servers' sockets and the variables that their imports have read; PYTHON is the real
one, which is run where a server cannot do the same. It starts often, so it imports little.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping

# Of the environment, what Python's start or an import of the server's packages may read.
_READ_AT_IMPORT = tuple(
    """CUDA_ GOMP_ HF_ HOME HUGGINGFACE_ KMP_ LANG LC_ LD_ MALLOC_ MKL_ OMP_ OPENBLAS_ PYTHON
PYTORCH_ TORCH TRANSFORMERS_ TZ XDG_""".split()
)
# ... but for what a fork sees to itself
_READ_LATER = ("PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


SOCKETS = ("all-else", "figures")


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_AT_IMPORT) and name not in _READ_LATER
    }


def main(folder: str, python: str, *arguments: str) -> int:
    with open(f"{folder}/environment.json", encoding="utf-8") as file:  # noqa: PTH123
        expected = json.load(file)
    plain = arguments and (arguments[0] in ("-m", "-c") or not arguments[0].startswith("-"))
    if not plain or read_at_import(os.environ) != expected:
        os.execv(python, [python, *arguments])
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(f"{folder}/{SOCKETS[arguments[0].endswith('.figure.py')]}")
    except OSError:
        os.execv(python, [python, *arguments])
    folder = os.getcwd()  # noqa: PTH109
    request = {"arguments": arguments, "environment": dict(os.environ), "folder": folder}
    text = json.dumps(request).encode()
    socket.send_fds(server, [len(text).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(text)
    for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda number, _: server.sendall(bytes([number])))
    told = server.recv(4)
    code = int.from_bytes(told, "big", signed=True) if told else -signal.SIGKILL
    if code < 0:  # it was ended by a signal: so is this
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
