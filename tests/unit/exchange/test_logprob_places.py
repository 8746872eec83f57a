from typing import Any

import pytest
from hfx_router.exchange.logprob_places import CompletionPlaces, GeneratePlaces


def completion(*choices: tuple[int, list[str]] | None) -> dict[str, Any]:
    return {
        "choices": [
            {"index": 0, "text": "x", "logprobs": None}
            if choice is None
            else {
                "index": choice[0],
                "text": "x",
                "logprobs": {
                    "tokens": choice[1],
                    "token_logprobs": [-float(i) for i, _ in enumerate(choice[1])],
                    "top_logprobs": None,
                    "text_offset": [-1] * len(choice[1]),
                },
            }
            for choice in choices
        ]
    }


def tokens(answer: dict[str, Any]) -> list[Any]:
    return [(choice["logprobs"] or {}).get("tokens") for choice in answer["choices"]]


def test_a_completion_gets_its_prompt_without_the_first_output_token() -> None:
    places = CompletionPlaces()
    places.learn(completion((0, ["the", "quick", "fox"])), 0)
    answer = completion((0, ["fox", "jumps"]))
    assert places.join(answer, 0)
    logprobs = answer["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["the", "quick", "fox", "jumps"]
    assert logprobs["token_logprobs"] == [-0.0, -1.0, -0.0, -1.0]
    assert logprobs["text_offset"] == [-1] * 4
    assert logprobs["top_logprobs"] is None, "what was not asked for stays away"


def test_choices_of_a_batch_are_matched_by_their_index() -> None:
    places = CompletionPlaces()
    places.learn(completion((1, ["b", "!"]), (0, ["a", "!"])), 0)
    answer = completion((0, ["!"]), (1, ["!"]), (2, ["!"]))
    assert places.join(answer, 0)
    assert tokens(answer) == [["a", "!"], ["b", "!"], ["!"]]


def test_of_a_stream_only_the_first_event_with_logprobs_gets_the_prompt() -> None:
    places = CompletionPlaces()
    places.learn(completion((0, ["a", "b"])), 0)
    events = [completion(None), completion((0, ["b"])), completion((0, ["c"]))]
    assert [places.join(event, 0) for event in events] == [False, True, False]
    assert [tokens(event) for event in events] == [[None], [["a", "b"]], [["c"]]]


@pytest.mark.parametrize(
    "answer", [{}, {"choices": None}, {"choices": [1]}, {"choices": [{"logprobs": []}]}]
)
def test_odd_completions_are_left_alone(answer: dict[str, Any]) -> None:
    places = CompletionPlaces()
    places.learn(answer, 0)
    assert not places.join(answer, 0)


def test_generate_joins_every_kind_of_prompt_logprobs() -> None:
    places = GeneratePlaces()
    meta = {name: [name] for name in GeneratePlaces.FIELDS}
    places.learn({"meta_info": meta}, 3)
    answer = {"meta_info": {name: ["own"] for name in GeneratePlaces.FIELDS} | {"id": "r"}}
    assert places.join(answer, 3)
    assert answer["meta_info"] == {name: [name, "own"] for name in GeneratePlaces.FIELDS} | {
        "id": "r"
    }
