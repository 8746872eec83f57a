import pytest
from hfx_router.metrics.class_labels import ClassLabels, shown_class

from hfx_sgl.policy.slo.config import MAX_CLASSES


@pytest.mark.parametrize(
    ("name", "label"),
    [("chat", "chat"), ("none", "none"), ("other", "other"), ("/v1/completions", "none")],
)
def test_paths_are_no_classes(name: str, label: str) -> None:
    assert shown_class(name) == ClassLabels().label(name) == label


def test_the_first_classes_have_labels_of_their_own_and_keep_them() -> None:
    labels = ClassLabels()
    for path in ("/generate", "other", "none"):  # take no place of a class
        labels.label(path)
    names = [f"c{number}" for number in range(MAX_CLASSES + 2)]
    for _ in range(2):
        assert [labels.label(name) for name in names] == [*names[:MAX_CLASSES], "other", "other"]
    assert labels.label("/v1/completions") == "none"
