"""Shows a plan as shell commands that can be pasted. Pure."""

import shlex
from collections.abc import Sequence

from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import ClusterPlan, InstancePlan

_CPU_NOTE = """\
# Mooncake's TCP transport listens on every network interface. To keep it to this machine, run
# all of the following in one loopback-only network namespace (as root):
#   unshare --net bash -c 'ip link set lo up; exec bash'"""


def render_plan(plan: ClusterPlan, notes: Sequence[str] = ()) -> str:
    """Return the exact commands, one block for each process, the router's last.

    `notes` are lines that come before them.

    Each runs until it is stopped, so each needs a terminal of its own; the router comes after
    the servers answer.
    """
    blocks = [_CPU_NOTE] if plan.device is Device.CPU else []
    if notes:
        blocks.append("\n".join(f"# {note}" for note in notes))
    blocks += [_render_instance(instance) for instance in plan.servers]
    if plan.router is not None:
        blocks.append(_render_instance(plan.router))
    return "\n\n".join(blocks) + "\n"


def _render_instance(instance: InstancePlan) -> str:
    settings = [f"{name}={shlex.quote(value)}" for name, value in sorted(instance.env.items())]
    lines = [" ".join(settings)] if settings else []
    lines += [" ".join(shlex.quote(word) for word in words) for words in _by_flag(instance.argv)]
    return f"# {instance.name}: {instance.url}\n" + " \\\n    ".join(lines)


def _by_flag(argv: Sequence[str]) -> list[list[str]]:
    """Group the words so that each flag from the fourth word on starts a line."""
    lines = [list(argv[:3])]
    for word in argv[3:]:
        if word.startswith("--"):
            lines.append([word])
        else:
            lines[-1].append(word)
    return lines
