"""One engine: the object that simulator and emulated worker drive."""

from collections.abc import Sequence

from hfx_sgl.engine.events import EngineEvent
from hfx_sgl.engine.load import EngineLoad
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import StepTimes
from hfx_sgl.types import Role


class Engine:
    """Continuous batching of one server.

    Instants never decrease from call to call. An input at `now_s` changes what happens after
    `now_s`: a step under way is finished as it was begun. Events wait for the next `advance`.

    The way of a request by role:

    - regular: `submit`; `FirstToken`; `Finished`.
    - prefill: `submit`; somebody calls `kv_granted` once the decode side has room; `FirstToken`;
      `KvSent`; `Finished`.
    - decode: `submit`; `KvAllocated`; somebody calls `kv_arrived` after the prefill engine's
      `KvSent`; `FirstToken`; `Finished`.
    """

    def __init__(
        self, spec: EngineSpec, step_times: StepTimes, *, now_s: float, is_started: bool = False
    ) -> None:
        """Begin to start at `now_s`; with `is_started`, be ready at once."""
        raise NotImplementedError

    @property
    def role(self) -> Role:
        """What it does at present."""
        raise NotImplementedError

    @property
    def ready_at_s(self) -> float:
        """When the start or the change of role under way ends, or when the last one ended."""
        raise NotImplementedError

    @property
    def is_idle(self) -> bool:
        """Whether it has no request at all."""
        raise NotImplementedError

    def submit(self, request: EngineRequest, now_s: float) -> None:
        """Take a request.

        Raises:
            EngineRefusal: it cannot be taken; says why.
        """
        raise NotImplementedError

    def kv_granted(self, request_id: str, now_s: float) -> None:
        """Prefill role: the decode side has room, so the prompt may be scheduled.

        A request that is not (or no longer) here is ignored; the same holds for the calls below.
        """
        raise NotImplementedError

    def kv_arrived(self, request_id: str, now_s: float) -> None:
        """Decode role: the KV of the whole prompt is here."""
        raise NotImplementedError

    def handoff_failed(self, request_id: str, now_s: float) -> None:
        """The other side is gone: end the request, if it still depends on the other side."""
        raise NotImplementedError

    def abort(self, request_id: str, now_s: float) -> None:
        """End a request; its `Finished` has the reason `ABORTED`.

        One that is waiting ends at once, one in a step at the end of the step.
        """
        raise NotImplementedError

    def switch_role(self, role: Role, now_s: float) -> None:
        """Begin to change the role; `ready_at_s` says when it is done.

        Raises:
            EngineRefusal: NOT_READY, it is not idle or a change is under way.
        """
        raise NotImplementedError

    def set_extra_step_s(self, extra_step_s: float, now_s: float) -> None:
        """Make each step from the next one on take longer (`/slow_down`)."""
        raise NotImplementedError

    def flush_cache(self, now_s: float) -> bool:
        """Empty the prefix cache; False, and nothing done, while there are requests."""
        raise NotImplementedError

    def next_event_s(self) -> float:
        """Return a lower bound of when the next event comes; `math.inf` when none is pending.

        Calling `advance` with it makes progress even where no event comes of it. Many decode
        steps may lie before it: nothing is computed token by token.
        """
        raise NotImplementedError

    def next_step_s(self) -> float:
        """Return when the step (or transfer) under way ends; `math.inf` when nothing runs."""
        raise NotImplementedError

    def advance(self, now_s: float) -> Sequence[EngineEvent]:
        """Let time pass up to `now_s` and return the events up to then, in order of time."""
        raise NotImplementedError

    def num_output_tokens(self, request_id: str) -> int:
        """Return how many tokens the request has produced by the last `advance`.

        Raises:
            KeyError: no such request here.
        """
        raise NotImplementedError

    def load(self, now_s: float) -> EngineLoad:
        """Return what `/v1/loads` would say."""
        raise NotImplementedError
