"""Whether a server that has started holds exactly the weights of its source."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hfx_sgl.errors import TransferError
from hfx_transfer.sglang.weights.checksums import Checksums, ask_checksums, difference, num_tensors
from hfx_transfer.sglang.weights.flags import LOAD_FORMAT
from hfx_transfer.sglang.weights.http_json import ask_json
from hfx_transfer.sglang.weights.probe import weight_version
from hfx_transfer.sglang.weights.report import parse_identity
from hfx_transfer.sglang.weights.settings import CloneSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A server that serves, and what it was to copy."""

    name: str
    url: str
    source_url: str
    weight_version: str
    """The source's when it was chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of comparing one of them with its source."""

    name: str
    problem: str | None
    """None: all tensors are equal."""
    num_tensors: int = 0


def verify(started: Sequence[Started], settings: CloneSettings) -> list[Verdict]:
    """Compare servers with their sources; a source digests its weights once for all of them.

    A source may be updated at any time, so the version is looked at after the digests: they are
    equal, and those of the version that was chosen, or there is a problem.
    """
    with ThreadPoolExecutor(max_workers=2 * len(started) or 1) as pool:
        formats = list(pool.map(lambda each: _format_problem(each, settings), started))
        # A server that took nothing from its source need not be compared with it.
        taken = [each for each, problem in zip(started, formats, strict=True) if problem is None]
        urls = dict.fromkeys(url for each in taken for url in (each.source_url, each.url))
        found = dict(zip(urls, pool.map(lambda url: _digests(url, settings), urls), strict=True))
    return [
        Verdict(name=each.name, problem=problem)
        if problem is not None
        else _compare(each, found[each.source_url], found[each.url], settings)
        for each, problem in zip(started, formats, strict=True)
    ]


def format_problem(load_format: str) -> str | None:
    """Return what a server's load format says against it; None when it did load from a peer."""
    if load_format == LOAD_FORMAT:
        return None
    return f"SGLang fell back to load format {load_format!r} without a word"


def _format_problem(started: Started, settings: CloneSettings) -> str | None:
    try:
        answer = ask_json(started.url, "/model_info", timeout_s=settings.probe_timeout_s)
        identity = parse_identity(answer)
    except TransferError as exc:
        return str(exc)
    return format_problem(identity.load_format)


def _digests(url: str, settings: CloneSettings) -> Checksums | TransferError:
    try:
        return ask_checksums(url, timeout_s=settings.checksum_timeout_s)
    except TransferError as exc:
        return exc


def _compare(
    started: Started,
    theirs: Checksums | TransferError,
    own: Checksums | TransferError,
    settings: CloneSettings,
) -> Verdict:
    if isinstance(theirs, TransferError):
        return Verdict(name=started.name, problem=f"the source cannot be compared: {theirs}")
    if isinstance(own, TransferError):
        return Verdict(name=started.name, problem=f"it cannot be compared: {own}")
    problem = difference(theirs, own) or _version_problem(started, settings)
    return Verdict(name=started.name, problem=problem, num_tensors=num_tensors(own))


def _version_problem(started: Started, settings: CloneSettings) -> str | None:
    for what, url in (("source", started.source_url), ("new server", started.url)):
        try:
            version = weight_version(url, timeout_s=settings.probe_timeout_s)
        except TransferError as exc:
            return f"the {what} cannot be asked for its version: {exc}"
        if version != started.weight_version:
            return f"the {what} has weight version {version}, chosen was {started.weight_version}"
    return None
