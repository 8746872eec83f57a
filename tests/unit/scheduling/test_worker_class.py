"""Workers of one class have one key."""

import pytest
from hfx_router.scheduling.worker_class import CLASS_FIELDS, class_key

from hfx_sgl.types import Role

METADATA = {
    "model_path": "/models/a",
    "tp_size": 2,
    "version": "0.5.23",
    "accelerator": "NVIDIA H100 80GB",
    "weight_version": "default",
    "quantization": None,
}


def test_the_key_is_readable_and_of_one_order() -> None:
    key = class_key("org/model", Role.DECODE, METADATA)
    assert key == (
        "model=org/model role=decode accelerator=NVIDIA%20H100%2080GB tp_size=2 version=0.5.23"
    )
    assert class_key("org/model", Role.DECODE, dict(reversed(METADATA.items()))) == key


@pytest.mark.parametrize("name", CLASS_FIELDS)
def test_what_step_times_depend_on_tells_classes_apart(name: str) -> None:
    keys = {class_key("m", Role.REGULAR, METADATA | {name: value}) for value in ("x", "y", None)}
    assert len(keys) == 3


def test_model_and_role_tell_classes_apart() -> None:
    keys = {class_key(model, role, METADATA) for model in ("a", "b") for role in Role}
    assert len(keys) == 6


@pytest.mark.parametrize("name", ["model_path", "weight_version", "whatever"])
def test_the_rest_does_not(name: str) -> None:
    plain = class_key("m", Role.REGULAR, METADATA)
    assert class_key("m", Role.REGULAR, METADATA | {name: "other"}) == plain


def test_no_value_can_look_like_another_field() -> None:
    sly = class_key("m role=decode", Role.PREFILL, {})
    assert sly != class_key("m", Role.DECODE, {})
    assert sly.count(" ") == 1
    assert class_key("m", Role.DECODE, {"version": "1 tp_size=2"}) != class_key(
        "m", Role.DECODE, {"tp_size": 2, "version": "1"}
    )
