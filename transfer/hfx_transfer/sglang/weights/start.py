"""Starts servers with the weights of running ones, compares them, and falls back to the disk."""

from collections.abc import Mapping, Sequence

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import ConfigError, LaunchError
from hfx_sgl.launch.plan import InstancePlan
from hfx_sgl.launch.weights import ServerStarter
from hfx_transfer.sglang.weights.attempt import CloneOutcome, Pending
from hfx_transfer.sglang.weights.compatibility import disk_problem
from hfx_transfer.sglang.weights.discover import find_servers
from hfx_transfer.sglang.weights.environment import Environment, inspect_environment
from hfx_transfer.sglang.weights.flags import DEFAULT_WEIGHT_VERSION
from hfx_transfer.sglang.weights.plan import (
    ClonePlan,
    Source,
    check_candidates,
    rank,
    survey_servers,
)
from hfx_transfer.sglang.weights.rounds import next_round
from hfx_transfer.sglang.weights.settings import CloneSettings
from hfx_transfer.sglang.weights.spec import CloneSpec
from hfx_transfer.sglang.weights.verify import Started, verify
from hfx_transfer.sglang.weights.watch import SourceWatch


def start_clones(
    starter: ServerStarter,
    servers: Sequence[InstancePlan],
    candidates: Sequence[str],
    settings: CloneSettings | None = None,
    *,
    clock: Clock | None = None,
) -> tuple[CloneOutcome, ...]:
    """Start servers from running ones and return, in their order, where their weights came from.

    Several go at once, and one that has started is a source for the others. One whose source
    fails, or whose weights turn out to be others, is stopped and tried with another source and
    then with the disk.

    Args:
        candidates: URLs of SGLang servers or of routers, `http://HOST:PORT`.

    Raises:
        ConfigError: the flags or the SGLang environment make it impossible.
        LaunchError: a server could not be started from disk either. The others keep running.
    """
    return _Start(starter, candidates, settings or CloneSettings(), clock or WallClock()).run(
        servers
    )


class _Start:
    """One call of `start_clones`."""

    def __init__(
        self,
        starter: ServerStarter,
        candidates: Sequence[str],
        settings: CloneSettings,
        clock: Clock,
    ) -> None:
        self._starter = starter
        self._candidates = list(candidates)
        self._settings = settings
        self._clock = clock
        self._said: set[str] = set()
        self._versions: set[str] = set()
        self._outcomes: dict[str, CloneOutcome] = {}

    def run(self, servers: Sequence[InstancePlan]) -> tuple[CloneOutcome, ...]:
        pending = [Pending(server=each, spec=CloneSpec.of(each)) for each in servers]
        check_servers(servers, self._candidates)
        environment = self._inspect(servers)
        from_disk: list[Pending] = []
        while pending:
            plans = self._ask_around(pending, environment)
            left = {each.name: self._left(each, plans[each.name]) for each in pending}
            from_disk += [each for each in pending if not left[each.name]]
            pending = [each for each in pending if left[each.name]]
            self._start_round(pending, plans, left, environment)
            pending = [each for each in pending if each.name not in self._outcomes]
        if from_disk:
            self._start_from_disk(from_disk)
        return tuple(self._outcomes[server.name] for server in servers)

    def _inspect(self, servers: Sequence[InstancePlan]) -> Environment:
        python = servers[0].argv[0]
        environment = inspect_environment(
            python, servers[0].env, timeout_s=self._settings.contact_timeout_s
        )
        if not environment.has_plugin:
            self._say(
                f"weights: {python} has no hfx-sgl, so no server that takes its weights from a "
                "peer can pass them on"
            )
        return environment

    def _ask_around(
        self, pending: Sequence[Pending], environment: Environment
    ) -> dict[str, ClonePlan]:
        """Ask everybody once for all servers, and rank them for each."""
        first = pending[0]
        urls, unusable = find_servers(self._candidates, timeout_s=self._settings.probe_timeout_s)
        survey = survey_servers(urls, first.spec.python, first.server.env, self._settings)
        plans = {
            each.name: rank(each.spec, survey, unusable, environment, self._settings)
            for each in pending
        }
        for plan in plans.values():
            self._versions |= {source.report.identity.weight_version for source in plan.sources}
            for rejected in plan.rejected:
                self._say(f"weights: not from {rejected.url}: {rejected.reason}")
        return plans

    def _left(self, pending: Pending, plan: ClonePlan) -> list[Source]:
        """Return what may still be tried; when it is nothing, the server knows why."""
        if len(pending.tried) >= self._settings.max_sources:
            return []
        left = pending.left_of(plan)
        if not left:
            pending.reasons += [
                f"{each.url}: {each.reason}"
                for each in plan.rejected
                if each.url not in pending.tried
            ]
        return left

    def _start_round(
        self,
        pending: Sequence[Pending],
        plans: Mapping[str, ClonePlan],
        left: Mapping[str, Sequence[Source]],
        environment: Environment,
    ) -> None:
        """Start those whose turn it is, and keep those that turn out well."""
        groups: dict[tuple[str, ...], list[Pending]] = {}
        for each in pending:
            groups.setdefault(tuple(s.url for s in left[each.name]), []).append(each)
        chosen: dict[str, Source] = {}
        for group in groups.values():
            sources = {source.url: source for source in left[group[0].name]}
            can_pass_on = environment.has_plugin and all(each.spec.is_seed for each in group)
            turn = next_round(
                [each.name for each in group],
                list(sources.values()),
                self._settings,
                can_pass_on=can_pass_on,
            )
            chosen |= {name: sources[url] for name, url in turn.items()}
        starting = [each for each in pending if each.name in chosen]
        if starting:
            failed = self._start(starting, chosen, plans)
            serving = [each for each in starting if each.name not in failed]
            failed |= self._verify(serving, chosen, can_pass_on=environment.has_plugin)
            self._note_failures(starting, chosen, failed)

    def _start(
        self,
        pending: Sequence[Pending],
        chosen: Mapping[str, Source],
        plans: Mapping[str, ClonePlan],
    ) -> dict[str, str]:
        """Return by name why servers do not serve."""
        attempts = []
        for each in pending:
            source = chosen[each.name]
            self._say(f"weights: {each.name} from {source.url} ({source.ranking.reason})")
            attempts.append(each.from_source(plans[each.name], source, self._settings))
        watch = SourceWatch(
            {name: source.url for name, source in chosen.items()},
            silence_timeout_s=self._settings.silence_timeout_s,
            clock=self._clock,
        )
        return self._starter.try_add(
            *attempts, timeout_s=self._settings.start_timeout_s, give_up=watch
        )

    def _verify(
        self, serving: Sequence[Pending], chosen: Mapping[str, Source], *, can_pass_on: bool
    ) -> dict[str, str]:
        """Return by name what is wrong with servers that serve; those are stopped."""
        started = [
            Started(
                name=each.name,
                url=each.server.url,
                source_url=chosen[each.name].url,
                weight_version=chosen[each.name].report.identity.weight_version,
            )
            for each in serving
        ]
        wrong: dict[str, str] = {}
        for each, verdict in zip(serving, verify(started, self._settings), strict=True):
            if verdict.problem is not None:
                wrong[each.name] = verdict.problem
                self._starter.stop(each.name)
                continue
            url = chosen[each.name].url
            self._say(f"weights: {each.name} holds the {verdict.num_tensors} tensors of {url}")
            self._outcomes[each.name] = CloneOutcome(
                name=each.name,
                source_url=url,
                reasons=tuple(each.reasons),
                num_tensors=verdict.num_tensors,
            )
            if can_pass_on and each.spec.is_seed:
                self._candidates.append(each.server.url)
        return wrong

    def _note_failures(
        self, tried: Sequence[Pending], chosen: Mapping[str, Source], failed: Mapping[str, str]
    ) -> None:
        for each in tried:
            url = chosen[each.name].url
            each.tried.add(url)
            if (problem := failed.get(each.name)) is not None:
                each.reasons.append(f"{url}: {problem}")
                self._say(f"weights: {each.name} not from {url} after all: {problem}")

    def _start_from_disk(self, pending: Sequence[Pending]) -> None:
        failed: dict[str, str] = {}
        for each in pending:
            problem = disk_problem(each.spec.model_path)
            if problem is not None:
                failed[each.name] = problem
        possible = [each for each in pending if each.name not in failed]
        for each in possible:
            why = "; ".join(each.reasons) or "nobody was found to take them from"
            self._say(f"weights: {each.name} from disk ({each.spec.model_path}): {why}")
        if possible and (updated := self._versions - {DEFAULT_WEIGHT_VERSION}):
            self._say(
                f"weights: peers hold version {', '.join(sorted(updated))}; what is on disk may "
                "be another"
            )
        if possible:
            failed |= self._starter.try_add(*(each.from_disk() for each in possible))
        self._outcomes |= {
            each.name: CloneOutcome(name=each.name, source_url=None, reasons=tuple(each.reasons))
            for each in possible
            if each.name not in failed
        }
        if failed:
            raise LaunchError(
                "\n".join(
                    f"{each.name} got its weights from nowhere: "
                    + "; ".join([*each.reasons, f"disk: {failed[each.name]}"])
                    for each in pending
                    if each.name in failed
                )
            )

    def _say(self, text: str) -> None:
        """Say a thing once, however many servers it is about."""
        if text not in self._said:
            self._said.add(text)
            self._starter.note(text)


def check_servers(servers: Sequence[InstancePlan], candidates: Sequence[str]) -> None:
    """Look at the settings alone.

    Raises:
        ConfigError: a URL is none, or a server's flags do not go with weights from a peer.
    """
    check_candidates(candidates)
    problems = [text for server in servers for text in CloneSpec.of(server).problems()]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
