import pytest
from hfx_router.body.inspect import read_routing_fields
from hfx_router.estimates.output_limit import max_output_tokens


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ('{"messages":[],"max_tokens":7}', 7),
        ('{"messages":[],"max_completion_tokens":8}', 8),
        ('{"messages":[],"max_tokens":7,"max_completion_tokens":8}', 8),
        ('{"messages":[],"max_tokens":7,"max_completion_tokens":null}', 7),
        ('{"messages":[]}', None),
        ('{"messages":[],"max_tokens":null}', None),
        ('{"messages":[],"max_tokens":"many"}', None),
        ('{"messages":[],"max_tokens":-1}', None),
        ('{"messages":[],"max_tokens":1.5}', None),
        ('{"messages":[],"max_tokens":' + "9" * 5000 + "}", None),
        ('{"prompt":"x","max_tokens":9}', 9),
        ('{"prompt":"x"}', 16),
        ('{"input":"x","max_output_tokens":10}', 10),
        ('{"input":"x"}', None),
        ('{"text":"x","sampling_params":{"max_new_tokens":11}}', 11),
        ('{"text":"x","sampling_params":{"temperature":0,"max_new_tokens" : 12}}', 12),
        ('{"text":"x","sampling_params":{"temperature":0}}', 128),
        ('{"text":"x","sampling_params":null}', 128),
        ('{"text":"x"}', 128),
        ('{"input_ids":[1]}', 128),
        ('{"text":"x","sampling_params":{"max_new_tokens":null}}', None),
        ('{"text":["x","y"],"sampling_params":[{"max_new_tokens":3},{"max_new_tokens":5}]}', 5),
        ("{}", None),
    ],
)
def test_reads_the_limit_of_every_endpoint(body: str, limit: int | None) -> None:
    assert max_output_tokens(read_routing_fields(body.encode())) == limit
