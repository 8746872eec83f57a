"""How long one worker takes: the models of its class times how it compares with them."""

from collections.abc import Sequence

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.moments import num_steps, typical_steps
from hfx_sgl.policy.latency.speed import SpeedConfig, WorkerSpeed


class WorkerLatency:
    """Predicts for one worker, and learns from its reports for it and for its class.

    Many share one `LatencyModels`. The model of the class learns times divided by the worker's
    factor: learnt as they are, one slow worker would make the model wrong for all. Nothing is held
    against a worker before the model of its class is warm: until then the model is what is wrong.
    A change that all workers of a class share goes to their factors first and from there, as these
    fade towards 1, to the model.
    """

    __slots__ = ("decode_speed", "models", "prefill_speed")

    def __init__(self, models: LatencyModels, config: SpeedConfig | None = None) -> None:
        """Take the models of the worker's class."""
        self.models = models
        self.prefill_speed = WorkerSpeed(config)
        self.decode_speed = WorkerSpeed(config)

    def prefill_s(self, num_new_tokens: int, num_prefix_tokens: int) -> float:
        """Return the time of a prefill step for one prompt."""
        class_s = self.models.prefill.predict_s(num_new_tokens, num_prefix_tokens)
        return self.prefill_speed.factor * class_s

    def decode_s(self, num_running: float, num_context_tokens: float) -> float:
        """Return the time of one decode step."""
        class_s = self.models.decode.predict_s(num_running, num_context_tokens)
        return self.decode_speed.factor * class_s

    def observe_prefills(self, features: Sequence[float], busy_s: float) -> None:
        """Learn from the prefills between two reports: sums of `PrefillModel.features` and times.

        To be called at each report; `features` may be empty when nothing was computed.
        """
        model = self.models.prefill
        is_known = bool(features) and model.fit.is_warm
        self.prefill_speed.observe(model.total_s(features) if is_known else 0.0, busy_s)
        if features:
            model.observe_total(features, busy_s / self.prefill_speed.factor)

    def observe_decode(
        self, previous: Sequence[float], current: Sequence[float], mean_context_tokens: float
    ) -> None:
        """Learn from the decode steps between two reports; see `DecodeModel.observe_moments`.

        To be called at each report.
        """
        model = self.models.decode
        steps = typical_steps(previous, current)
        predicted_s = actual_s = 0.0
        if steps and model.fit.is_warm:
            # The typical steps stand for equally many each.
            weight = num_steps(previous, current) / len(steps)
            predicted_s = weight * sum(
                model.predict_s(b, b * mean_context_tokens) for b, _ in steps
            )
            actual_s = weight * sum(step_s for _, step_s in steps)
        self.decode_speed.observe(predicted_s, actual_s)
        factor = self.decode_speed.factor
        for num_running, step_s in steps:
            model.observe(num_running, num_running * mean_context_tokens, step_s / factor)
