"""What processes have used of the machine, read from /proc."""

import os
from pathlib import Path


def cpu_s_of(pid: int) -> float:
    """Return the processor time of a process and of all that descend from it."""
    return sum(map(_cpu_s, family_of(pid)))


def disk_bytes() -> int:
    """Return what this process has read from disks so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "read_bytes":
            return int(value)
    raise OSError("/proc/self/io has no read_bytes")


def family_of(pid: int) -> list[int]:
    """Return a process and all that descend from it, those first that were there first."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    family = [pid]
    for known in family:
        family += [child for child, parent in parents.items() if parent == known]
    return family


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    ticks = int(fields[11]) + int(fields[12]) if fields else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()
