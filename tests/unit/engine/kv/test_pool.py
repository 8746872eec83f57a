import pytest

from hfx_sgl.engine.kv.pool import KvAccountingError, KvPool


def test_counts_what_is_used() -> None:
    pool = KvPool(100, page_tokens=16)
    assert pool.capacity_tokens == 96, "whole pages only"
    pool.alloc(64)
    pool.free(16)
    assert (pool.num_used_tokens, pool.num_free_tokens) == (48, 48)


@pytest.mark.parametrize("num_tokens", [-16, 8, 112])
def test_refuses_to_allocate(num_tokens: int) -> None:
    pool = KvPool(100, page_tokens=16)
    with pytest.raises(KvAccountingError):
        pool.alloc(num_tokens)
    assert pool.num_used_tokens == 0


@pytest.mark.parametrize("num_tokens", [-16, 8, 48])
def test_refuses_to_free(num_tokens: int) -> None:
    pool = KvPool(100, page_tokens=16)
    pool.alloc(32)
    with pytest.raises(KvAccountingError):
        pool.free(num_tokens)
    assert pool.num_used_tokens == 32
