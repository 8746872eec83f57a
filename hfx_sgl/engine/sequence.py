"""What an engine remembers of a request that it has."""

from enum import Enum, auto

from hfx_sgl.engine.events import FinishReason
from hfx_sgl.engine.kv.prefix_cache import Lock
from hfx_sgl.engine.request import EngineRequest


class SequenceState(Enum):
    """Where in the engine a sequence is. Exactly one queue or set holds it in each state."""

    BOOTSTRAP = auto()
    """Prefill role: the decode side has no room yet."""
    WAITING = auto()
    """For a prefill step; holds no KV."""
    PREFILL = auto()
    """In a prefill step, or between two chunks."""
    SENDING = auto()
    """Prefill role: computed, its KV is not all sent."""
    PREALLOC = auto()
    """Decode role: waits for room."""
    TRANSFER = auto()
    """Decode role: has room, its KV has not arrived."""
    ARRIVED = auto()
    """Decode role: may join the running batch."""
    RUNNING = auto()
    """In the running batch."""
    RETRACTED = auto()
    """Decode role: its KV is parked outside the device."""
    ENDED = auto()


class Sequence:
    """One request in an engine, from its submission to its end. Plain data; the parts own it."""

    __slots__ = (
        "doom",
        "entry_no",
        "finish_step",
        "first_token_at_s",
        "is_clipped",
        "lock",
        "max_new_tokens",
        "num_cached_tokens",
        "num_kv_tokens",
        "num_outputs",
        "num_prompt_tokens",
        "num_retractions",
        "num_shared_tokens",
        "offset",
        "priority",
        "prompt",
        "request_id",
        "scheduled_at_s",
        "state",
        "submitted_at_s",
        "target_tokens",
    )

    def __init__(
        self, request: EngineRequest, max_new_tokens: int, state: SequenceState, now_s: float
    ) -> None:
        self.request_id = request.request_id
        self.prompt = request.prompt
        self.num_prompt_tokens = request.prompt.num_tokens
        self.max_new_tokens = max_new_tokens
        """What the engine plans with, after clipping to context and memory."""
        self.target_tokens = min(request.num_output_tokens, max_new_tokens)
        """With so many output tokens it ends."""
        self.priority = request.priority
        self.state = state
        self.submitted_at_s = now_s
        self.entry_no = 0
        """Order in which it entered the waiting queue last."""
        self.num_outputs = 0
        """Output tokens; kept by the running set while it is running."""
        self.num_kv_tokens = 0
        """Tokens whose KV is on the device; kept by the running set while it is running."""
        self.lock: Lock | None = None
        self.num_shared_tokens = 0
        """How many of them belong to the prefix tree."""
        self.offset = 0
        """Running: output tokens less the decode steps that the running set has counted."""
        self.finish_step = 0
        """Running: the running set's count of decode steps at which it ends."""
        self.is_clipped = False
        """Running: whether its expected need is at the ceiling of the estimate."""
        self.num_cached_tokens = 0
        self.num_retractions = 0
        self.scheduled_at_s: float | None = None
        self.first_token_at_s: float | None = None
        self.doom: FinishReason | None = None
        """Why it ends with the step under way, when it was ended from outside."""

    @property
    def num_fill_tokens(self) -> int:
        """Tokens to have in KV before it can go on: the prompt and what it has produced."""
        return self.num_prompt_tokens + self.num_outputs
