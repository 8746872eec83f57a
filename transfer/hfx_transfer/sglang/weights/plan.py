"""From whom a new server takes its weights: everybody named is asked, and each answer kept."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from hfx_sgl.errors import ConfigError, TransferError
from hfx_sgl.policy.transfer.sources import (
    Candidate,
    Layout,
    RankedSource,
    Wanted,
    choose_sources,
)
from hfx_transfer.sglang.weights.compatibility import common_version, disk_problem, reason_against
from hfx_transfer.sglang.weights.discover import Rejected, find_servers, url_problem
from hfx_transfer.sglang.weights.environment import (
    Environment,
    contact_sessions,
    inspect_environment,
)
from hfx_transfer.sglang.weights.flags import clone_args, clone_env
from hfx_transfer.sglang.weights.locality import THIS_HOST, host_of
from hfx_transfer.sglang.weights.probe import probe_source
from hfx_transfer.sglang.weights.report import SourceReport
from hfx_transfer.sglang.weights.settings import CloneSettings
from hfx_transfer.sglang.weights.spec import CloneSpec

_MAX_PROBES = 16
"""Servers that are asked at once; each takes a thread and for a moment a process."""

_SAME = Layout(model_hash="")
"""What fits at all is decided before sources are ranked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A server that weights can be taken from, and what speaks for it."""

    report: SourceReport
    ranking: RankedSource

    @property
    def url(self) -> str:
        """Where it serves."""
        return self.report.url


@dataclass(frozen=True, slots=True, kw_only=True)
class ClonePlan:
    """Where the weights of one new server come from."""

    spec: CloneSpec
    sources: tuple[Source, ...]
    """The best first; empty when the disk is all there is."""
    rejected: tuple[Rejected, ...]
    disk_problem: str | None
    """Why the disk would not do instead; None when it would, as far as one can see."""

    @property
    def source(self) -> Source | None:
        """The server to take the weights from; None when there is none."""
        return self.sources[0] if self.sources else None

    def args(self, source: Source) -> tuple[str, ...]:
        """Return all flags for SGLang, those that name the source last."""
        version = source.report.identity.weight_version
        return (*self.spec.args, *clone_args(source.url, weight_version=version))

    def env(self, source: Source, settings: CloneSettings) -> dict[str, str]:
        """Return what to set in the new server's environment."""
        return clone_env(source.report, min_bytes_per_s=settings.min_bytes_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What servers answered, each asked once."""

    reports: tuple[SourceReport, ...]
    rejected: tuple[Rejected, ...]


def plan_clone(
    spec: CloneSpec,
    candidates: Sequence[str],
    settings: CloneSettings | None = None,
    *,
    env: Mapping[str, str] | None = None,
) -> ClonePlan:
    """Ask running servers, and routers for theirs, and rank those that weights can be taken from.

    Args:
        candidates: URLs of SGLang servers or of routers, `http://HOST:PORT`.
        env: what the new server's environment has on top of this process's.

    Raises:
        ConfigError: a flag, a URL or the SGLang environment makes it impossible.
    """
    settings = settings or CloneSettings()
    check_candidates(candidates)
    if problems := list(spec.problems()):
        raise ConfigError(*problems)
    environment = inspect_environment(spec.python, env or {}, timeout_s=settings.contact_timeout_s)
    urls, unusable = find_servers(candidates, timeout_s=settings.probe_timeout_s)
    survey = survey_servers(urls, spec.python, env or {}, settings)
    return rank(spec, survey, unusable, environment, settings)


def check_candidates(candidates: Sequence[str]) -> None:
    """Raise ConfigError unless each is the URL of a server."""
    problems = [each for each in map(url_problem, candidates) if each is not None]
    if not candidates:
        problems = ["names nobody to take weights from"]
    if problems:
        raise ConfigError(*(f"bootstrap_from: {problem}" for problem in problems))


def survey_servers(
    urls: Sequence[str], python: str, env: Mapping[str, str], settings: CloneSettings
) -> Survey:
    """Ask all of them at once, over HTTP and then by Mooncake's own handshake."""

    def ask(url: str) -> SourceReport | Rejected:
        try:
            report = probe_source(url, timeout_s=settings.probe_timeout_s)
            sessions = [rank.session for rank in report.ranks]
            contact_sessions(python, env, sessions, timeout_s=settings.contact_timeout_s)
        except TransferError as exc:
            return Rejected(url=url, reason=str(exc))
        return report

    with ThreadPoolExecutor(max_workers=min(_MAX_PROBES, len(urls) or 1)) as pool:
        answers = list(pool.map(ask, urls))
    return Survey(
        reports=tuple(each for each in answers if isinstance(each, SourceReport)),
        rejected=tuple(each for each in answers if isinstance(each, Rejected)),
    )


def rank(
    spec: CloneSpec,
    survey: Survey,
    rejected: Sequence[Rejected],
    environment: Environment,
    settings: CloneSettings,
) -> ClonePlan:
    """Return who is able to, the cheapest first, and why the others are not."""
    refused = [*rejected, *survey.rejected]
    fitting: list[SourceReport] = []
    for report in survey.reports:
        reason = reason_against(spec, report, sglang_version=environment.sglang_version)
        if reason is None:
            fitting.append(report)
        else:
            refused.append(Rejected(url=report.url, reason=reason))
    version = common_version(fitting)
    for report in fitting:
        theirs = report.identity.weight_version
        if theirs != version:
            reason = f"it holds weight version {theirs}, most others {version}"
            refused.append(Rejected(url=report.url, reason=reason))
    same = {each.url: each for each in fitting if each.identity.weight_version == version}
    return ClonePlan(
        spec=spec,
        sources=_ranked(same, settings),
        rejected=tuple(refused),
        disk_problem=disk_problem(spec.model_path),
    )


def _ranked(reports: Mapping[str, SourceReport], settings: CloneSettings) -> tuple[Source, ...]:
    candidates = [
        Candidate(
            source_id=url,
            host_id=host_of(urlsplit(url).hostname or ""),
            layout=_SAME,
            generation=0,
            role=report.identity.role,
            num_running_requests=report.load.num_requests,
            num_running_tokens=report.load.num_tokens,
        )
        for url, report in reports.items()
    ]
    size_bytes = max((report.size_bytes for report in reports.values()), default=1)
    wanted = Wanted(size_bytes=size_bytes, layout=_SAME, host_id=THIS_HOST, generation=0)
    choice = choose_sources(wanted, candidates, settings.source)
    return tuple(Source(report=reports[each.source_id], ranking=each) for each in choice.ranked)
