"""The latency models of every class of workers, made when the first of a class appears."""

from collections.abc import Mapping

from hfx_sgl.policy.latency.config import FitConfig
from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.prior import LatencyPrior
from hfx_sgl.policy.latency.snapshot import LatencySnapshot


class ModelCatalog:
    """One `LatencyModels` for each class, so that different devices do not spoil each other's.

    A class is whatever its adapter calls alike by a key: same model, role, device and version.
    Classes are few, and none is ever dropped: a worker that comes back finds what was learnt.
    """

    def __init__(
        self,
        saved: Mapping[str, LatencySnapshot] | None = None,
        prior: LatencyPrior | None = None,
        config: FitConfig | None = None,
    ) -> None:
        """Begin with what was saved, by class key."""
        self._saved = dict(saved or {})
        self._prior = prior
        self._config = config
        self._models: dict[str, LatencyModels] = {}

    def models_of(self, class_key: str) -> LatencyModels:
        """Return the models that all workers of a class share; new ones start as saved.

        Raises:
            ConfigError: what was saved for the class does not fit the models.
        """
        models = self._models.get(class_key)
        if models is None:
            saved = self._saved.get(class_key)
            models = self._models[class_key] = LatencyModels(self._prior, self._config, saved)
        return models

    def by_class(self) -> dict[str, LatencyModels]:
        """Return the models of the classes that were asked for, by class key."""
        return dict(self._models)

    def snapshots(self) -> dict[str, LatencySnapshot]:
        """Return what is worth saving, by class key: also of classes that nobody asked for."""
        return self._saved | {key: models.snapshot() for key, models in self._models.items()}
