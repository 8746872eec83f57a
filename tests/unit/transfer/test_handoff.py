import json
import random
from collections import Counter

import pytest
from hfx_transfer.handoff import (
    MAX_ROOMS_PER_REQUEST,
    RoomAllocator,
    bootstrap_address_members,
    pairing_members,
)


def test_rooms_are_never_handed_out_twice() -> None:
    allocator = RoomAllocator(random.Random(1))
    rooms = [allocator.take() for _ in range(50_000)]
    assert len({room // MAX_ROOMS_PER_REQUEST for room in rooms}) == len(rooms), "blocks differ"
    assert all(0 <= room < 2**63 for room in rooms)


def test_two_routers_begin_at_different_rooms() -> None:
    starts = {RoomAllocator(random.Random(seed)).take() for seed in range(100)}
    assert len(starts) == 100


@pytest.mark.parametrize("modulus", [2, 3, 4, 8])
def test_ranks_chosen_by_room_are_chosen_evenly(modulus: int) -> None:
    allocator = RoomAllocator(random.Random(2))
    counts = Counter(allocator.take() % modulus for _ in range(8000))
    assert set(counts) == set(range(modulus))
    assert all(abs(count - 8000 / modulus) < 400 for count in counts.values())


def test_a_full_block() -> None:
    allocator = RoomAllocator(random.Random(3))
    for _ in range(100):
        assert allocator.take(MAX_ROOMS_PER_REQUEST) % MAX_ROOMS_PER_REQUEST == 0


@pytest.mark.parametrize("num_rooms", [0, -1, MAX_ROOMS_PER_REQUEST + 1])
def test_too_many_rooms_at_once(num_rooms: int) -> None:
    with pytest.raises(ValueError, match=f"num_rooms must be in 1..65536 \\({num_rooms}\\)"):
        RoomAllocator(random.Random(4)).take(num_rooms)


@pytest.mark.parametrize(
    ("host", "port"),
    [("10.0.0.1", 8998), ("::1", None), ('a"b\\c', 1), ("prefill.svc.cluster.local", 65535)],
)
def test_members_are_all_there(host: str, port: int | None) -> None:
    members = pairing_members(bootstrap_address_members(host, port), 2**63 - 1)
    assert json.loads(b"{%b}" % members) == {
        "bootstrap_host": host,
        "bootstrap_port": port,
        "bootstrap_room": 2**63 - 1,
    }
