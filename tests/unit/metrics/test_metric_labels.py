import pytest
from hfx_router.metrics.labels import (
    ErrorType,
    Outcome,
    clean,
    error_type_of,
    outcome_of,
    status_label,
    was_routed,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("status", "error_code", "outcome", "error_type", "routed"),
    [
        (200, "", Outcome.COMPLETED, None, True),
        (304, "", Outcome.COMPLETED, None, True),
        (400, "", Outcome.CLIENT_ERROR, ErrorType.VALIDATION, True),
        (400, "invalid_json", Outcome.CLIENT_ERROR, ErrorType.VALIDATION, False),
        (401, "invalid_api_key", Outcome.CLIENT_ERROR, ErrorType.VALIDATION, False),
        (408, "", Outcome.CLIENT_ERROR, ErrorType.TIMEOUT, True),
        (429, "queue_full", Outcome.REJECTED, ErrorType.BACKEND, False),
        (429, "queue_deadline_exceeded", Outcome.EVICTED, ErrorType.TIMEOUT, False),
        (429, "", Outcome.REJECTED, ErrorType.BACKEND, True),
        (499, "client_cancelled", Outcome.CANCELLED, None, True),
        (500, "", Outcome.UPSTREAM_ERROR, ErrorType.BACKEND, True),
        (500, "internal_error", Outcome.INTERNAL_ERROR, ErrorType.INTERNAL, True),
        (501, "not_supported", Outcome.CLIENT_ERROR, ErrorType.VALIDATION, True),
        (502, "upstream_unavailable", Outcome.UPSTREAM_ERROR, ErrorType.BACKEND, True),
        (503, "no_workers", Outcome.UNAVAILABLE, ErrorType.NO_WORKERS, True),
        (503, "", Outcome.UNAVAILABLE, ErrorType.BACKEND, True),
        (504, "upstream_timeout", Outcome.TIMEOUT, ErrorType.TIMEOUT, True),
    ],
)
def test_how_a_request_ended(
    status: int, error_code: str, outcome: Outcome, error_type: ErrorType | None, routed: bool
) -> None:
    assert outcome_of(status, error_code) is outcome
    assert error_type_of(status, error_code) is error_type
    assert was_routed(status, error_code) is routed


@pytest.mark.parametrize(
    ("status", "label"), [(200, "200"), (599, "599"), (99, "other"), (600, "other"), (0, "other")]
)
def test_status_labels(status: int, label: str) -> None:
    assert status_label(status) == label


@given(st.text(alphabet=st.characters(), max_size=400))
def test_cleaned_text_can_be_written_and_is_short(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert len(cleaned) <= 256


def test_ordinary_text_is_left_alone_and_lone_surrogates_are_not() -> None:
    assert clean("http://[::1]:30000@3 mödel") == "http://[::1]:30000@3 mödel"
    assert clean("a\ud800b") == "a?b"
