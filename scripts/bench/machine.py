"""Facts about the machine and the checkout that belong into a record."""

import os
import platform
import subprocess
from pathlib import Path

from bench.results import Machine


def describe_machine(*, router_core: int, load_core: int) -> Machine:
    """Return what the figures depend on."""
    return Machine(
        cpu_model=cpu_model(),
        num_cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kernel=platform.release(),
        python=platform.python_version(),
        router_core=router_core,
        load_core=load_core,
    )


def commit_of(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit and whether files differ from it; None, None outside a checkout."""
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return None, None
    return head.strip(), bool(_git(root, "status", "--porcelain"))


def cpu_ticks() -> tuple[int, int]:
    """Return stolen and total ticks of all cores since boot."""
    fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[7], sum(fields)


def cpu_model() -> str:
    """Return what the processors call themselves; the architecture where they do not say."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _git(root: Path, *arguments: str) -> str | None:
    try:
        outcome = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return outcome.stdout if outcome.returncode == 0 else None
