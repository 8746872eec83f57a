import json

import pytest
from hfx_router.body.splice import append_members, remove_members


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b"{}", b'{"z":1}'),
        (b"{ }", b'{ "z":1}'),
        (b"{\n}\n", b'{\n"z":1}'),
        (b'{"a":1}', b'{"a":1,"z":1}'),
        (b' {"a": 1 } ', b' {"a": 1 ,"z":1}'),
        (b'{"a":{}}', b'{"a":{},"z":1}'),
        (b'{"a":"{"}', b'{"a":"{","z":1}'),
        (b'{"a":1.50,"b":1e5}', b'{"a":1.50,"b":1e5,"z":1}'),
    ],
)
def test_append(body: bytes, result: bytes) -> None:
    assert append_members(body, b'"z":1') == result


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b"{}", b"{}"),
        (b"{ }", b"{}"),
        (b'{"a":1}', b'{"a":1}'),
        (b'{"x":1}', b"{}"),
        (b'{"x":1,"a":2}', b'{"a":2}'),
        (b'{"a":2,"x":1}', b'{"a":2}'),
        (b'{"a":1,"x":[1,{"a":2}],"b":3}', b'{"a":1,"b":3}'),
        (b'{"x":1,"x":2,"y":3,"a":4}', b'{"a":4}'),
        (b' { "a" : 1.50 , "x" : 2 , "b" : [ 1 , 2 ] } ', b'{"a" : 1.50,"b" : [ 1 , 2 ]}'),
        (b'{"\\u0078":1,"a":2}', b'{"a":2}'),
        (b'{"a":{"x":1},"b":[{"x":1}]}', b'{"a":{"x":1},"b":[{"x":1}]}'),
        (b'{"a":"x","b":"\\"x\\":1,"}', b'{"a":"x","b":"\\"x\\":1,"}'),
        (b'{"a":"\\\\","x":1,"b":"{["}', b'{"a":"\\\\","b":"{["}'),
        (b'{"a":[[],[{}],"]"],"x":{"y":{}}}', b'{"a":[[],[{}],"]"]}'),
        (b'{"xx":1,"X":2,"":3}', b'{"xx":1,"X":2,"":3}'),
        (b'{"a":-1.5E+3,"x":null,"b":true}', b'{"a":-1.5E+3,"b":true}'),
    ],
)
def test_remove(body: bytes, result: bytes) -> None:
    assert remove_members(body, {"x", "y"}) == result


def test_names_that_are_no_utf8_are_kept() -> None:
    assert remove_members(b'{"\xff":1,"x":2,"\xff\\u0041":3}', {"x"}) == (
        b'{"\xff":1,"\xff\\u0041":3}'
    )


@pytest.mark.parametrize(
    "value",
    [
        b'"%b"' % (b"word " * 400_000),
        b'"%b"' % (b"\\n\\u00e9" * 250_000),
        b"[%b1]" % (b"12," * 700_000),
        b'[%b"a"]' % (b'"a",' * 500_000),
    ],
    ids=["text", "escapes", "token ids", "texts"],
)
@pytest.mark.timeout(5)
def test_a_long_prompt_is_no_burden(value: bytes) -> None:
    body = b'{"text":%b,"x":1}' % value
    assert remove_members(body, {"x"}) == b'{"text":%b}' % value


def test_removed_and_appended_again() -> None:
    body = b'{"bootstrap_room":1,"text":"a"}'
    result = append_members(remove_members(body, {"bootstrap_room"}), b'"bootstrap_room":2')
    assert json.loads(result) == {"text": "a", "bootstrap_room": 2}
    only = append_members(remove_members(b'{"x":1}', {"x"}), b'"y":2')
    assert only == b'{"y":2}'
