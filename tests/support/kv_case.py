"""One prompt batch handed over from a prefill process to a decode process, and what comes out.

Each process keeps its engine for all cases, and has pools of its own for each.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import torch
from hfx_transfer.engine.capability import open_engine
from hfx_transfer.engine.protocol import Backend, TransferEngine
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.kv.layout import KvDtype, KvLayout
from hfx_transfer.kv.offer import decode_offer
from hfx_transfer.kv.outgoing import OutgoingKv
from hfx_transfer.kv.pages import PageAllocator, Reservation
from hfx_transfer.kv.pool import KvPool
from hfx_transfer.kv.receiver import KvReceiver
from hfx_transfer.kv.sender import KvSender
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.shared import SharedSlab
from hfx_transfer.memory.slab import Slab
from support.tiny_transformer import SHAPE, Kv, TinyTransformer

NUM_OUTPUT_TOKENS = 8
CHUNK_TOKENS = 24
WAIT_S = 30.0
"""A hand-off takes milliseconds; the machine may be busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCase:
    """What is handed over, and in which pages."""

    dtype: KvDtype
    prompt_lengths: tuple[int, ...]
    """One for each prompt of the batch."""
    prefill_page_tokens: int
    decode_page_tokens: int
    num_slabs: int = 1

    @property
    def prompts(self) -> list[list[int]]:
        rng = random.Random(repr(self.prompt_lengths))
        return [[rng.randrange(SHAPE.vocab_size) for _ in range(n)] for n in self.prompt_lengths]

    def layout(self, page_tokens: int) -> KvLayout:
        num_tokens = sum(n + NUM_OUTPUT_TOKENS + page_tokens for n in self.prompt_lengths)
        return KvLayout(
            num_layers=SHAPE.num_layers,
            page_tokens=page_tokens,
            num_kv_heads=SHAPE.num_kv_heads,
            head_dim=SHAPE.head_dim,
            dtype=self.dtype,
            num_pages=-(-num_tokens // page_tokens) + 8,
            num_slabs=self.num_slabs,
        )

    def model(self) -> TinyTransformer:
        return TinyTransformer(getattr(torch, self.dtype.value))


def generate_in_one_process(case: KvCase) -> list[list[int]]:
    """Return the tokens of each prompt without any hand-off."""
    torch.set_num_threads(1)
    layout = case.layout(case.decode_page_tokens)
    shape = (layout.num_pages, layout.page_tokens, layout.num_kv_heads, layout.head_dim)
    model = case.model()
    outputs = []
    for prompt in case.prompts:
        kv = [(torch.zeros(shape, dtype=model.dtype), torch.zeros(shape, dtype=model.dtype))
              for _ in range(layout.num_layers)]  # fmt: skip
        pages = range(layout.num_pages)
        token = prefill(model, prompt, kv, pages, lambda *_: None)
        outputs.append(decode(model, len(prompt), token, kv, pages))
    return outputs


def prefill(
    model: TinyTransformer,
    prompt: list[int],
    kv: Kv,
    pages: "range | tuple[int, ...]",
    on_chunk: Callable[[int, int, int], None],
) -> int:
    """Compute a prompt chunk by chunk; return the first token of the answer.

    Args:
        on_chunk: called with first token, number of tokens and layer as soon as their KV exists.
    """
    token = 0
    for first in range(0, len(prompt), CHUNK_TOKENS):
        chunk = prompt[first : first + CHUNK_TOKENS]
        on_layer = partial(on_chunk, first, len(chunk))
        token = model.forward(chunk, kv, pages, first_token=first, on_layer=on_layer)
    return token


def decode(
    model: TinyTransformer,
    num_prompt_tokens: int,
    token: int,
    kv: Kv,
    pages: "range | tuple[int, ...]",
) -> list[int]:
    """Return the answer, its first token being known."""
    tokens = [token]
    while len(tokens) < NUM_OUTPUT_TOKENS:
        at = num_prompt_tokens + len(tokens) - 1
        tokens.append(model.forward(tokens[-1:], kv, pages, first_token=at))
    return tokens


def make_slab(backend: Backend) -> Callable[[int], Slab]:
    return SharedSlab if backend is Backend.SHM else HostSlab


def run_prefill(connection: Connection, backend: Backend) -> None:
    """Serve (case, offers) until the connection ends: compute, push, say that it was accepted."""
    torch.set_num_threads(1)
    engine = open_engine(backend, EngineSettings())
    while (request := connection.recv()) is not None:
        case, offers = request
        connection.send(_prefill_case(engine, case, offers))


def _prefill_case(engine: TransferEngine, case: KvCase, offers: list[str]) -> int:
    """Return how many bytes were handed over."""
    layout = case.layout(case.prefill_page_tokens)
    pool = KvPool(layout, make_slab(engine.backend), engine, receives=False)
    kv = [pool.tensors(layer) for layer in range(layout.num_layers)]
    sender, model = KvSender(pool), case.model()
    # From the end, so that pages differ from the other side's.
    free = list(range(layout.num_pages))
    handoffs = []
    for prompt, offer in zip(case.prompts, offers, strict=True):
        pages = tuple(free.pop() for _ in range(layout.num_pages_for(len(prompt))))
        handoff = sender.begin(decode_offer(offer))

        push = partial(_push, handoff, pages, layout.page_tokens)
        token = prefill(model, prompt, kv, pages, push)
        handoff.finish(len(prompt), metadata=token.to_bytes(4, "big"))
        handoffs.append(handoff)
    for handoff in handoffs:
        handoff.accepted.result(WAIT_S)
        handoff.settled.result(WAIT_S)
    assert sender.close()
    pool.close()
    return layout.handoff_token_bytes * sum(case.prompt_lengths)


def _push(
    handoff: OutgoingKv,
    pages: tuple[int, ...],
    page_tokens: int,
    first_token: int,
    num_tokens: int,
    layer: int,
) -> None:
    rest = pages[first_token // page_tokens :]
    handoff.push_layer(layer, rest, first_token=first_token, num_tokens=num_tokens)


def run_decode(connection: Connection, backend: Backend) -> None:
    """Serve cases until the connection ends: open hand-offs, then decode what has arrived."""
    torch.set_num_threads(1)
    engine = open_engine(backend, EngineSettings())
    while (case := connection.recv()) is not None:
        _decode_case(connection, engine, case)


def _decode_case(connection: Connection, engine: TransferEngine, case: KvCase) -> None:
    layout = case.layout(case.decode_page_tokens)
    pool = KvPool(layout, make_slab(engine.backend), engine)
    kv = [pool.tensors(layer) for layer in range(layout.num_layers)]
    allocator = PageAllocator(layout.num_pages)
    receiver, model = KvReceiver(pool, allocator), case.model()
    incoming = [receiver.open(n, timeout_s=WAIT_S) for n in case.prompt_lengths]
    connection.send([each.offer.encode() for each in incoming if each is not None])
    outputs = []
    for each in incoming:
        assert each is not None
        arrival = each.result(WAIT_S)
        num_needed = layout.num_pages_for(arrival.num_tokens + NUM_OUTPUT_TOKENS)
        room = _reserve(allocator, num_needed - len(each.pages))
        pages = each.pages + room.pages
        token = int.from_bytes(arrival.metadata, "big")
        outputs.append(decode(model, arrival.num_tokens, token, kv, pages))
        room.release()
        each.release()
    assert allocator.num_free == layout.num_pages
    assert receiver.close()
    connection.send(outputs)
    pool.close()


def _reserve(allocator: PageAllocator, num_pages: int) -> Reservation:
    reservation = allocator.reserve(max(1, num_pages))
    assert reservation is not None
    return reservation
