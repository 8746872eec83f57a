import json
from typing import Any

import pytest
from hfx_router.body.inspect import (
    PAIRING_FIELDS,
    RoutingFields,
    batch_size,
    num_samples,
    read_routing_fields,
)
from hfx_router.body.splice import append_members, remove_members
from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.errors import InvalidRequestError

SPACE = st.sampled_from(["", "", " ", "\n", "\t\r\n  "])
TRICKY_TEXT = st.sampled_from(['"', "\\", '\\"', "{", "}", "[", "]", ",", ":", '","a":1', "é\n"])
SCALAR = (
    st.sampled_from(["0", "-1.50", "1e5", "1E+05", "true", "false", "null", "1" * 30])
    | st.lists(TRICKY_TEXT | st.text(max_size=3), max_size=4).map("".join).map(json.dumps)
)  # fmt: skip


@st.composite
def name_texts(draw: st.DrawFn, names: st.SearchStrategy[str]) -> tuple[str, str]:
    """A member's name, and one of the ways to write it in JSON."""
    name = draw(names)
    written = "".join(
        f"\\u{ord(char):04x}" if ord(char) < 0x10000 and draw(st.integers(0, 4)) == 0
        else json.dumps(char, ensure_ascii=draw(st.booleans()))[1:-1]
        for char in name
    )  # fmt: skip
    return name, f'"{written}"'


@st.composite
def arrays(draw: st.DrawFn, items: st.SearchStrategy[str]) -> str:
    parts = [draw(SPACE) + item + draw(SPACE) for item in draw(st.lists(items, max_size=3))]
    return "[" + (",".join(parts) or draw(SPACE)) + "]"


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    members = draw(st.lists(st.tuples(name_texts(NAMES), values), max_size=3))
    parts = [
        f"{draw(SPACE)}{written}{draw(SPACE)}:{draw(SPACE)}{value}{draw(SPACE)}"
        for (_, written), value in members
    ]
    return "{" + (",".join(parts) or draw(SPACE)) + "}"


REMOVED = ("bootstrap_room", "rid")
NAMES = st.sampled_from([*REMOVED, "text", "a", "", "ridx"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)
VALUES = st.recursive(SCALAR, lambda inner: arrays(inner) | objects(inner), max_leaves=8)


class Written:
    """A JSON object, and each of its members by name and as it was written."""

    def __init__(self, members: list[tuple[str, str]], text: str) -> None:
        self.members = members
        self.text = text

    def __repr__(self) -> str:
        return self.text


@st.composite
def bodies(draw: st.DrawFn) -> Written:
    members = []
    parts = []
    for _ in range(draw(st.integers(0, 5))):
        name, written = draw(name_texts(NAMES))
        member = written + draw(SPACE) + ":" + draw(SPACE) + draw(VALUES)
        members.append((name, member))
        parts.append(draw(SPACE) + member + draw(SPACE))
    inside = ",".join(parts) or draw(SPACE)
    return Written(members, draw(SPACE) + "{" + inside + "}" + draw(SPACE))


@given(bodies())
@settings(max_examples=200, deadline=None)
def test_removing_keeps_all_other_bytes(body: Written) -> None:
    kept = [member for name, member in body.members if name not in REMOVED]
    result = remove_members(body.text.encode(), set(REMOVED))
    assert result == ("{" + ",".join(kept) + "}").encode()


@given(bodies())
@settings(max_examples=100, deadline=None)
def test_appending_changes_nothing_before(body: Written) -> None:
    text = body.text.encode()
    result = append_members(text, b'"bootstrap_room":7,"z":[{}]')
    assert json.loads(result) == {**json.loads(text), "bootstrap_room": 7, "z": [{}]}
    assert result.startswith(text.rstrip()[:-1])


@given(bodies())
@settings(max_examples=100, deadline=None)
def test_replacing_leaves_one_of_each_name(body: Written) -> None:
    removed = remove_members(body.text.encode(), set(REMOVED))
    pairs = json.loads(
        append_members(removed, b'"rid":"r","bootstrap_room":7'), object_pairs_hook=lambda it: it
    )
    assert pairs[-2:] == [("rid", "r"), ("bootstrap_room", 7)]
    names = [name for name, _ in pairs]
    assert [names.count(name) for name in REMOVED] == [1, 1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["n", "rid", "a"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=6,
)
FIELD_NAMES = st.sampled_from(sorted(RoutingFields.__struct_fields__))


def check(error: InvalidRequestError) -> None:
    assert error.http_status == 400
    assert error.param is None or error.message.startswith(f"{error.param}: ")


def looked_at(body: bytes) -> RoutingFields | None:
    """All that routing does with a body; None where it is refused."""
    try:
        fields = read_routing_fields(body)
        batch_size(fields)
        num_samples(fields)
    except InvalidRequestError as error:
        check(error)
        return None
    fields.wants_logprobs()
    fields.prompt_json()
    fields.chooses_dp_rank()
    return fields


@given(JSON | st.dictionaries(FIELD_NAMES | st.text(max_size=3), JSON, max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_json_is_read_or_refused(value: Any) -> None:
    fields = looked_at(json.dumps(value).encode())
    if fields is not None:
        assert isinstance(value, dict)
        assert fields.has_pairing_fields() is bool(PAIRING_FIELDS & value.keys())


@given(
    st.binary(max_size=30)
    | st.lists(
        st.sampled_from([b'{"', b'n":', b"1", b'"', b"\\u", b"\xff", b"d800", b",", b"}", b"[",
                         b"]", b'"sampling_params":', b'"bootstrap_room":0', b"{", b":", b" "])
    ).map(b"".join)
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    fields = looked_at(body)
    if fields is not None and fields.has_pairing_fields():
        assert looked_at(remove_members(body, PAIRING_FIELDS)) is not None


TYPED = {"stream": bool, "rid": str, "n": int, "return_logprob": bool}


@pytest.mark.parametrize("name", sorted(TYPED))
@given(value=JSON)
@settings(max_examples=40, deadline=None)
def test_a_wrong_type_names_its_field(name: str, value: Any) -> None:
    is_right = value is None or type(value) is TYPED[name]
    if name in ("rid", "return_logprob") and isinstance(value, list):
        is_right = all(type(item) is TYPED[name] for item in value)
    text = json.dumps({"model": "m", name: value})
    if is_right or "NaN" in text or "Infinity" in text or "\\ud" in text:
        return
    with pytest.raises(InvalidRequestError) as caught:
        read_routing_fields(text.encode())
    assert caught.value.param == name
