import json
from typing import Any

import pytest
from hfx_router.body.inspect import (
    DP_FIELDS,
    MAX_BATCH,
    PAIRING_FIELDS,
    batch_size,
    num_samples,
    read_routing_fields,
)

from hfx_sgl.errors import InvalidRequestError


def test_reads_what_routing_needs() -> None:
    fields = read_routing_fields(
        b'{"model":"m","stream":true,"rid":"r1","n":2,"return_logprob":true,"unknown":{"a":[1]}}'
    )
    assert fields.stream is True
    assert fields.rid == "r1"
    assert fields.n == 2
    assert fields.wants_logprobs()
    assert not fields.has_pairing_fields()
    assert not fields.chooses_dp_rank()


def test_nothing_sent_is_nothing_asked() -> None:
    fields = read_routing_fields(b"{}")
    assert (fields.stream, fields.rid, fields.n) == (None, None, None)
    assert not fields.wants_logprobs()
    assert fields.prompt_json() == b""
    assert batch_size(fields) is None
    assert num_samples(fields) == 1


@pytest.mark.parametrize("name", sorted(PAIRING_FIELDS))
@pytest.mark.parametrize("value", ["1", "null", '"x"', "[1,2]", '{"a":1}'])
def test_pairing_fields_are_noticed_whatever_they_hold(name: str, value: str) -> None:
    fields = read_routing_fields(f'{{"{name}":{value}}}'.encode())
    assert fields.has_pairing_fields()
    assert not fields.chooses_dp_rank()


@pytest.mark.parametrize("name", sorted(DP_FIELDS))
def test_rank_fields_are_noticed(name: str) -> None:
    fields = read_routing_fields(f'{{"{name}":null}}'.encode())
    assert fields.chooses_dp_rank()
    assert not fields.has_pairing_fields()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(True, True), (False, False), (None, False), ([], False), ([False, True], True)],
)
def test_logprobs(value: Any, wanted: bool) -> None:
    fields = read_routing_fields(json.dumps({"return_logprob": value}).encode())
    assert fields.wants_logprobs() is wanted


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        ('{"messages": [ {"role":"user"} ]}', '[ {"role":"user"} ]'),
        ('{"prompt":"a\\u0062"}', '"a\\u0062"'),
        ('{"text":"a","input_ids":[1]}', '"a"'),
        ('{"input_ids":[1, 2]}', "[1, 2]"),
        ('{"input":["x"]}', '["x"]'),
        ('{"model":"m"}', ""),
    ],
)
def test_prompt_is_its_json_text(body: str, prompt: str) -> None:
    assert read_routing_fields(body.encode()).prompt_json() == prompt.encode()


@pytest.mark.parametrize("body", [b"", b"  \r\n\t"])
def test_empty_body(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="the body is empty") as caught:
        read_routing_fields(body)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":1} x',
        b'{"a":1}{"a":1}',
        b'{"a":"\\x"}',
        b'{"a":01}',
        b'{"rid":"\xff"}',
        b'{"rid":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"nonsense",
        b"{" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_broken_json(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="not valid JSON") as caught:
        read_routing_fields(body)
    assert caught.value.code == "json_parse_error"
    assert caught.value.http_status == 400


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"{}"', b"true", b"[{}]"])
def test_the_body_is_an_object(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="must be a JSON object") as caught:
        read_routing_fields(body)
    assert caught.value.param is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"stream":"yes"}', "stream"),
        (b'{"stream":1}', "stream"),
        (b'{"rid":5}', "rid"),
        (b'{"rid":{}}', "rid"),
        (b'{"rid":["a",5]}', "rid"),
        (b'{"return_logprob":"true"}', "return_logprob"),
        (b'{"return_logprob":[1]}', "return_logprob"),
        (b'{"n":"2"}', "n"),
        (b'{"n":1.5}', "n"),
        (b'{"n":true}', "n"),
        (b'{"n":1e400}', "n"),
    ],
)
def test_a_wrong_type_names_its_field(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{param}: ") as caught:
        read_routing_fields(body)
    assert caught.value.param == param
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({"text": "a"}, None),
        ({"text": ["a"]}, 1),
        ({"text": ["a", "b", "c"]}, 3),
        ({"text": ["[", '"', "]"]}, 3),
        ({"prompt": "a"}, None),
        ({"prompt": ["a", "b"]}, 2),
        ({"prompt": [1, 2, 3]}, None),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"input_ids": [1, 2, 3]}, None),
        ({"input_ids": [[1, 2], [3]]}, 2),
        ({"input_ids": [[]]}, 1),
        ({"input_ids": 7}, None),
        ({"text": "a", "input_ids": [[1], [2]]}, None),
        ({"text": None, "input_ids": [[1], [2]]}, 2),
        ({"messages": [{"role": "user"}, {"role": "user"}]}, None),
        ({"input": ["a", "b"]}, None),
        ({"text": ["a"] * MAX_BATCH}, MAX_BATCH),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_batch_size(body: dict[str, Any], size: int | None, indent: int | None) -> None:
    text = json.dumps(body, indent=indent).encode()
    assert batch_size(read_routing_fields(text)) == size


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text": []}, "text"),
        ({"prompt": []}, "prompt"),
        ({"input_ids": []}, "input_ids"),
        ({"text": ["a"] * (MAX_BATCH + 1)}, "text"),
        ({"input_ids": [[1]] * (MAX_BATCH + 1)}, "input_ids"),
    ],
)
def test_a_batch_has_a_size_that_rooms_can_count(body: dict[str, Any], param: str) -> None:
    fields = read_routing_fields(json.dumps(body).encode())
    with pytest.raises(
        InvalidRequestError, match=rf"^{param}: a batch holds 1 to 65536 prompts"
    ) as caught:
        batch_size(fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "num"),
    [
        ({"n": 3}, 3),
        ({"n": 1}, 1),
        ({"n": 0}, 1),
        ({"n": -4}, 1),
        ({"n": None}, 1),
        ({"sampling_params": {"n": 4, "temperature": 0}}, 4),
        ({"sampling_params": {"n": None}}, 1),
        ({"sampling_params": {}}, 1),
        ({"sampling_params": None}, 1),
        ({"sampling_params": []}, 1),
        ({"sampling_params": [{"n": 2}, {}, {"n": 5}, {"n": None}]}, 5),
        ({"n": 2, "sampling_params": {"n": 3}}, 2),
        ({"n": None, "sampling_params": {"n": 3}}, 3),
    ],
)
def test_num_samples(body: dict[str, Any], num: int) -> None:
    assert num_samples(read_routing_fields(json.dumps(body).encode())) == num


@pytest.mark.parametrize("params", [5, "x", {"n": "2"}, {"n": 2.5}, [1], [{"n": "2"}]])
def test_wrong_sampling_params(params: Any) -> None:
    fields = read_routing_fields(json.dumps({"sampling_params": params}).encode())
    with pytest.raises(InvalidRequestError, match=r"^sampling_params: ") as caught:
        num_samples(fields)
    assert caught.value.param == "sampling_params"
