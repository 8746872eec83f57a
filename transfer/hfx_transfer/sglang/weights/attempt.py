"""One server on its way: what was tried so far, and what came of it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from hfx_sgl.launch.plan import InstancePlan
from hfx_transfer.sglang.weights.plan import ClonePlan, Source
from hfx_transfer.sglang.weights.settings import CloneSettings
from hfx_transfer.sglang.weights.spec import CloneSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneOutcome:
    """A server that serves, and where its weights came from."""

    name: str
    source_url: str | None
    """None: from disk."""
    reasons: tuple[str, ...]
    """Why not from elsewhere: one line for each source that was tried or could not be."""
    num_tensors: int = 0
    """How many were compared with the source's."""


@dataclass(slots=True, kw_only=True)
class Pending:
    """A server that does not serve yet."""

    server: InstancePlan
    spec: CloneSpec
    reasons: list[str] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    """URLs of the sources that it was started from."""

    @property
    def name(self) -> str:
        """The server's name."""
        return self.server.name

    def left_of(self, plan: ClonePlan) -> list[Source]:
        """Return the sources that were not tried, the best first."""
        return [source for source in plan.sources if source.url not in self.tried]

    def from_source(self, plan: ClonePlan, source: Source, settings: CloneSettings) -> InstancePlan:
        """Return the plan for a start from a source."""
        attempt = self.from_disk()
        launch_words = attempt.argv[: len(attempt.argv) - len(plan.spec.args)]
        return replace(
            attempt,
            argv=(*launch_words, *plan.args(source)),
            env={**attempt.env, **plan.env(source, settings)},
        )

    def from_disk(self) -> InstancePlan:
        """Return the plan for a start without a source; each attempt keeps its log."""
        number = len(self.tried)
        if number == 0:
            return self.server
        path = Path(self.server.log_path)
        return replace(
            self.server, log_path=str(path.with_name(f"{path.stem}.{number + 1}{path.suffix}"))
        )
