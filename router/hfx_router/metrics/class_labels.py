"""The `class` label: names that clients may make up, so only so many are told apart."""

from hfx_sgl.policy.slo.config import MAX_CLASSES, NO_CLASS, OTHER_CLASS, is_class_name


def shown_class(name: str) -> str:
    """Return the class as people know it.

    Requests without a class are told apart by their path where their lengths are learnt.
    """
    return name if is_class_name(name) else NO_CLASS


class ClassLabels:
    """Finds the label of a class. The first `MAX_CLASSES` have their own, the others share one."""

    def __init__(self) -> None:
        self._labels = {NO_CLASS: NO_CLASS, OTHER_CLASS: OTHER_CLASS}
        self._num_own = 0

    def label(self, name: str) -> str:
        """Return the label of a class, or of the path of an endpoint."""
        label = self._labels.get(name)
        return self._learn(name) if label is None else label

    def _learn(self, name: str) -> str:
        label = shown_class(name)
        if label == name:
            if self._num_own >= MAX_CLASSES:
                return OTHER_CLASS
            self._num_own += 1
        self._labels[name] = label
        return label
