"""What weights are moved by without any transfer engine: copies, disk, and raw sockets."""

import importlib
import importlib.util
import mmap
import os
import socket
import threading
import time
from contextlib import suppress

from transfer_bench.content import Content, is_equal, parts_of, read_into
from transfer_bench.timing import Timed, timed, verified

HOST = "127.0.0.1"
_READER_MODULES = ("safetensors", "torch")
_READ_AHEAD_S = 0.05


def fresh(size_bytes: int, *, has_large_pages: bool = True) -> mmap.mmap:
    """Return memory that no page has been given to yet.

    Large pages halve the time of everything that fills it. Ways that are to be a ceiling ask for
    them; those that stand for a loader of models do not, as torch does not either.
    """
    # Private, as allocators have it: shared memory costs more to fill, and has no large pages.
    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if has_large_pages:
        with suppress(OSError):  # A kernel without them.
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def run_memcpy(content: Content, source: memoryview) -> Timed:
    """Copy from memory to memory, one thread."""
    target = memoryview(fresh(content.size_bytes))

    def copy() -> None:
        target[:] = source

    run = timed(copy)
    return verified(run, is_equal(content, parts_of(content, target)))


def run_disk(content: Content, *, how: str, is_cold: bool) -> Timed:
    """Read the file: `readinto` in pieces of 16 MiB, or `safetensors` as loaders of models do."""
    if how != "readinto":
        for name in _READER_MODULES:  # Importing them is no part of reading.
            importlib.import_module(name)
    if is_cold:
        forget(content.path)
    target = memoryview(fresh(content.size_bytes, has_large_pages=how == "readinto"))
    parts = parts_of(content, target)

    def read() -> None:
        if how == "readinto":
            read_into(content, target)
        else:
            _read_safetensors(content, parts)

    run = timed(read)
    return verified(run, is_equal(content, parts))


def forget(path: str) -> None:
    """Have the system drop what it has cached of a file."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        # What is being read ahead at this moment is not dropped; it has arrived by the next time.
        time.sleep(_READ_AHEAD_S)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def has_safetensors() -> bool:
    """Whether the reference reader can be used."""
    return all(importlib.util.find_spec(name) for name in _READER_MODULES)


def _read_safetensors(content: Content, parts: dict[str, memoryview]) -> None:
    """Open the file and copy each tensor into the memory of a model, as weight loaders do."""
    import safetensors
    import torch

    with safetensors.safe_open(content.path, framework="pt") as file:
        for name, part in parts.items():
            torch.frombuffer(part, dtype=torch.bfloat16).copy_(file.get_tensor(name))


class SocketSource:
    """Sends the part of the weights that each connection asks for, as fast as it can."""

    def __init__(self, source: memoryview) -> None:
        self._source = source
        self._listener = socket.create_server((HOST, 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._send, args=(connection,), daemon=True).start()

    def _send(self, connection: socket.socket) -> None:
        with connection:
            begin, end = (int.from_bytes(connection.recv(8, socket.MSG_WAITALL)) for _ in "be")
            connection.sendall(self._source[begin:end])


def run_sockets(content: Content, *, port: int, num_connections: int) -> Timed:
    """Pull the weights over plain connections, each its share, straight into place."""
    target = memoryview(fresh(content.size_bytes))
    bounds = [content.size_bytes * i // num_connections for i in range(num_connections + 1)]
    failures: list[str] = []

    def pull(begin: int, end: int) -> None:
        # Without a timeout: with one, Python polls before each short copy. Whoever asked for this
        # run does not wait for ever.
        with socket.create_connection((HOST, port)) as connection:
            connection.sendall(begin.to_bytes(8) + end.to_bytes(8))
            done = begin
            while done < end:
                num_bytes = connection.recv_into(target[done:end], 0, socket.MSG_WAITALL)
                if not num_bytes:
                    failures.append(f"the connection ended {end - done} bytes early")
                    return
                done += num_bytes

    def pull_all() -> None:
        threads = [
            threading.Thread(target=pull, args=bounds[i : i + 2]) for i in range(num_connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run = timed(pull_all)
    return verified(run, not failures and is_equal(content, parts_of(content, target)))


def held(content: Content) -> memoryview:
    """Return all weights in memory, every page in place."""
    view = memoryview(fresh(content.size_bytes))
    read_into(content, view)
    return view
