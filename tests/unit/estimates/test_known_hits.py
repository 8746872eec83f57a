import json
from typing import Any

import pytest
from hfx_router.estimates.known_hits import known_hit_tokens
from hfx_router.estimates.prompts import PromptEstimate

from hfx_sgl.policy.estimates.kv_blocks import BlockIndex, StoredBlocks
from hfx_sgl.policy.estimates.prompt_size import size_of

TOKENS = list(range(10))


@pytest.fixture
def index() -> BlockIndex:
    index = BlockIndex()
    index.add_worker("w", 2)
    index.cleared("w")
    index.stored("w", StoredBlocks(block_hashes=[1, 2, 3], parent_hash=None, token_ids=TOKENS[:6]))
    return index


def found(index: BlockIndex, prompt: Any, token_ids: list[int] | None = None) -> Any:
    prompt_json = json.dumps(prompt).encode()
    estimate = PromptEstimate(num_tokens=1, size=size_of(prompt_json), token_ids=token_ids)
    return known_hit_tokens(index, estimate, prompt_json)


def test_a_counted_prompt_is_looked_up(index: BlockIndex) -> None:
    assert found(index, "some text", TOKENS) == {"w": 6}
    assert found(index, "some text", TOKENS[:5]) == {"w": 4}


def test_token_ids_are_looked_up(index: BlockIndex) -> None:
    assert found(index, TOKENS) == {"w": 6}
    assert found(index, [9, *TOKENS]) == {"w": 0}


@pytest.mark.parametrize("prompt", ["some text", [TOKENS, TOKENS], [-1], [2**70], [1, "x"], [0.5]])
def test_without_tokens_nothing_is_known(index: BlockIndex, prompt: Any) -> None:
    assert found(index, prompt) is None


def test_without_workers_that_tell_nothing_is_known() -> None:
    index = BlockIndex()
    assert found(index, TOKENS) is None
    index.add_worker("w", 2)
    assert found(index, TOKENS, TOKENS) is None
