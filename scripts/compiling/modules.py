"""Which modules are compiled, and where their extensions lie. No I/O but looking at files."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path

GROUP = "hfx_compiled"
"""All modules are one library of this name, so that they call each other as C does."""
FOLDERS = {"hfx_sgl": "", "hfx_router": "router"}
"""Where in the checkout the packages lie."""
_SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))

_PACKAGES: dict[str, tuple[str, ...]] = {
    "hfx_sgl.policy": ("prefix_index",),
    "hfx_sgl.policy.estimates": ("prompt_size", "prompt_tokens"),
    "hfx_sgl.policy.latency": (
        "decode", "fit", "linear_algebra", "models", "moments", "prefill", "residual", "rls",
        "speed", "transfer", "worker",
    ),
    "hfx_sgl.policy.scheduler": (
        "by_deadline", "entry", "estimates", "explain", "fairness", "handoff", "hits", "learning",
        "on_time", "output_lengths", "own_timing", "partners", "passed_over", "placement", "pool",
        "prefixes", "queue", "ranking", "scheduler", "sites", "time_bound", "waiters",
        "worker_state",
    ),
    "hfx_router": ("auth", "outbox"),
    "hfx_router.body": ("splice",),
    "hfx_router.estimates": ("known_hits", "output_limit", "prompts"),
    "hfx_router.exchange": (
        "abort", "answer_facts", "base", "cors", "gate", "judgement", "leg", "pd", "priority",
        "promises", "regular", "request_headers", "wishes",
    ),
    "hfx_router.http1": ("body_framing", "request_reader", "response_head", "sse_meter"),
    "hfx_router.metrics": (
        "class_labels", "histogram", "labels", "recorder", "scheduling_recorder",
    ),
    "hfx_router.scheduling": ("dispatcher", "journal", "place"),
    "hfx_router.server": ("connection", "front"),
    "hfx_router.upstream": ("connection", "pool"),
    "hfx_router.workers": ("registry",),
}  # fmt: skip
"""Those that take the time of a decision or a request. Left out, though used there: modules whose
classes other code makes by itself (values that are pickled, what msgspec decodes), and packages'
own `__init__`."""


def sources(root: Path) -> list[Path]:
    """Return the files to compile."""
    return [
        root / FOLDERS[package.partition(".")[0]] / package.replace(".", "/") / f"{name}.py"
        for package, names in _PACKAGES.items()
        for name in names
    ]


def extension_of(source: Path) -> Path:
    """Return where the extension of a module lies: it is imported instead of the source."""
    return source.with_name(source.stem + _SUFFIX)


def built(root: Path) -> Iterator[Path]:
    """Yield the extensions that there are, also of modules that are not compiled any more."""
    yield from root.glob(f"{GROUP}__mypyc.*.so")
    for package, folder in FOLDERS.items():
        yield from (root / folder / package).rglob("*.so")


def problems(root: Path) -> list[str]:
    """Say what keeps the extensions from being what the sources say; nothing where none is."""
    found = set(built(root))
    if not found:
        return []
    wanted = {extension_of(source): source for source in sources(root)}
    library = root / f"{GROUP}__mypyc{_SUFFIX}"
    return [
        *(f"{path} belongs to no source" for path in sorted(found - {*wanted, library})),
        *(f"{path} is missing" for path in sorted({*wanted, library} - found)),
        *(
            f"{path} is older than its source"
            for path, source in sorted(wanted.items())
            if path in found and path.stat().st_mtime < source.stat().st_mtime
        ),
    ]
