"""Whatever happens to pairs, in whatever order: what is barred is what is down or does not fit."""

from hypothesis import given
from hypothesis import strategies as st

from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.pairs.link import BARRED_STATES, LinkConfig, LinkState

PREFILLS, DECODES = ("p0", "p1", "p2"), ("d0", "d1")
PAIRS = [(prefill_id, decode_id) for prefill_id in PREFILLS for decode_id in DECODES]

PAIR = st.sampled_from(PAIRS)
STEP = st.one_of(
    st.tuples(st.sampled_from(["succeeded", "abandoned", "send"]), PAIR),
    st.tuples(st.sampled_from(["failed", "doubted"]), PAIR),
    st.tuples(st.just("judge"), st.tuples(PAIR, st.booleans())),
    st.tuples(st.just("renewed"), st.sampled_from([*PREFILLS, *DECODES])),
    st.tuples(st.just("probed"), st.tuples(st.sampled_from(PREFILLS), st.booleans())),
    st.tuples(st.just("wait"), st.floats(0.0, 20.0)),
    st.tuples(
        st.just("set_workers"),
        st.tuples(st.sets(st.sampled_from(PREFILLS)), st.sets(st.sampled_from(DECODES))),
    ),
)


def play(book: PairBook, step: tuple[str, object], now_s: float) -> float:
    match step:
        case "send", (str(prefill_id), str(decode_id)):
            # As deciders do: never to a barred pair, told only where a trial is due.
            if decode_id not in book.barred.get(prefill_id, frozenset()) and book.has_due:
                book.taken(prefill_id, decode_id, now_s)
        case ("failed" | "doubted") as name, (str(prefill_id), str(decode_id)):
            getattr(book, name)(prefill_id, decode_id, "why", now_s)
        case ("succeeded" | "abandoned") as name, (str(prefill_id), str(decode_id)):
            getattr(book, name)(prefill_id, decode_id, now_s)
        case "judge", ((str(prefill_id), str(decode_id)), bool(fits)):
            book.judge({(prefill_id, decode_id): "" if fits else "no"})
        case "renewed", str(worker_id):
            book.renewed(worker_id, now_s)
        case "probed", (str(prefill_id), bool(answers)):
            book.probed(prefill_id, "" if answers else "silent", now_s)
        case "wait", float(pause_s):
            now_s += pause_s
            book.poll(now_s)
        case "set_workers", (set() as prefill_ids, set() as decode_ids):
            book.set_workers(prefill_ids, decode_ids)
    return now_s


@given(st.lists(STEP, max_size=60))
def test_the_book_agrees_with_its_links(steps: list[tuple[str, object]]) -> None:
    book = PairBook(LinkConfig(failure_threshold=2, cooldown_s=5.0))
    book.set_workers(PREFILLS, DECODES)
    prefill_ids, decode_ids = set(PREFILLS), set(DECODES)
    now_s = 0.0
    for step in steps:
        if step[0] == "set_workers":
            prefill_ids, decode_ids = step[1]  # type: ignore[misc]
        now_s = play(book, step, now_s)
        here = {(p, d) for p in prefill_ids for d in decode_ids}
        standings = {key: book.standing(*key) for key in here}
        wrong = {k for k, one in standings.items() if one.problem or one.state in BARRED_STATES}
        assert {(p, d) for p, ids in book.barred.items() for d in ids} == wrong
        assert all(book.problem(*key) is not None for key in wrong)
        assert sum(book.counts().values()) == len(here)
        states = [one.state for one in standings.values()]
        assert book.has_due == (LinkState.DUE in states)
        assert book.has_trials == (LinkState.TRIAL in states)
        assert book.is_settled == all(state is LinkState.OK for state in states)
        for one in standings.values():
            assert (one.due_at_s is not None) == (one.state is LinkState.DOWN)
            assert one.due_at_s is None or one.due_at_s > now_s
        assert wrong <= {one[:2] for one in book.remarkable()}
