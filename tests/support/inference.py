"""Inference answers in the shape of SGLang 0.5.23, per POST endpoint. A FAKE: the text is made up.

Every answer counts tokens 0, 1, 2, ...; a prefill engine stops after its first token.
"""

import json
from collections.abc import Callable

from support.engine import (
    CREATED_S,
    Body,
    EngineState,
    answer_get,
    error_answer,
    event,
    json_answer,
    sse_answer,
)
from support.script import Script, answer

DONE = b"data: [DONE]\n\n"
DEFAULT_NUM_TOKENS = 4


def answer_of(state: EngineState, method: str, path: str, body: bytes) -> Script:
    """Return the default answer to one request; `path` may carry a query."""
    route = path.partition("?")[0]
    if method == "GET":
        return answer_get(state, route)
    if route in ("/abort_request", "/health", "/health_generate"):
        return answer(headers=())
    if route == "/flush_cache":
        return answer(headers=(), body=b"Cache flushed.\n")
    post = _POST.get(route)
    if post is None:
        return json_answer({"detail": "Not Found"}, status=404)
    try:
        parsed = json.loads(body)
    except ValueError:
        return error_answer(400, "JSON decode error")
    if not isinstance(parsed, dict):
        return error_answer(400, "Input should be a valid dictionary")
    return post(state, parsed)


def _num_tokens(state: EngineState, wanted: object) -> int:
    if state.disaggregation_mode == "prefill":
        return 1
    return wanted if isinstance(wanted, int) else DEFAULT_NUM_TOKENS


def _token(index: int) -> str:
    return f" t{index}"


def _generate(state: EngineState, body: Body) -> Script:
    prompts = body.get("text", body.get("input_ids"))
    is_batch = isinstance(body.get("text"), list) or (
        isinstance(prompts, list) and bool(prompts) and isinstance(prompts[0], list)
    )
    items = prompts if is_batch and isinstance(prompts, list) else [prompts]
    params = body.get("sampling_params")
    num_tokens = _num_tokens(
        state, params.get("max_new_tokens") if isinstance(params, dict) else None
    )
    rids = _rids(body.get("rid"), len(items), is_batch)
    if not body.get("stream"):
        outs = [_generate_out(body, rid, item, num_tokens, num_tokens)
                for rid, item in zip(rids, items, strict=True)]  # fmt: skip
        return json_answer(outs if is_batch else outs[0])
    events: list[bytes] = []
    for count in range(1, num_tokens + 1):
        for index, (rid, item) in enumerate(zip(rids, items, strict=True)):
            out = _generate_out(body, rid, item, count, num_tokens)
            events.append(event({**out, "index": index} if is_batch else out))
    return sse_answer([*events, DONE], state.token_interval_s)


def _rids(rid: object, num_items: int, is_batch: bool) -> list[str]:
    if isinstance(rid, list):
        return [str(value) for value in rid]
    stem = rid if isinstance(rid, str) else "mock"
    return [f"{stem}_{index}" for index in range(num_items)] if is_batch else [stem]


def _generate_out(body: Body, rid: str, prompt: object, count: int, num_tokens: int) -> Body:
    num_prompt_tokens = len(prompt) if isinstance(prompt, str | list) else 1
    is_last = count == num_tokens
    meta: Body = {
        "id": rid,
        "finish_reason": {"type": "length", "length": num_tokens} if is_last else None,
        "prompt_tokens": num_prompt_tokens,
        "weight_version": "default",
        "num_retractions": 0,
    }
    if body.get("return_logprob"):
        meta["input_token_logprobs"] = [
            [-0.5 if index else None, 100 + index, None] for index in range(num_prompt_tokens)
        ]
        meta["output_token_logprobs"] = [[-1.0, index, None] for index in range(count)]
        meta["output_token_logprobs_length"] = count
    meta |= {"reasoning_tokens": 0, "completion_tokens": count, "cached_tokens": 0}
    meta |= {"cached_tokens_details": None, "dp_rank": None}
    if is_last:
        meta["e2e_latency"] = 0.01
    text = "".join(_token(index) for index in range(count))
    return {"text": text, "output_ids": list(range(count)), "meta_info": meta}


def _usage(num_prompt_tokens: int, num_tokens: int) -> Body:
    return {
        "prompt_tokens": num_prompt_tokens,
        "total_tokens": num_prompt_tokens + num_tokens,
        "completion_tokens": num_tokens,
        "prompt_tokens_details": None,
        "reasoning_tokens": 0,
        "completion_tokens_details": None,
    }


def _openai_num_tokens(state: EngineState, body: Body) -> int:
    return _num_tokens(state, body.get("max_completion_tokens", body.get("max_tokens")))


def _openai_head(state: EngineState, body: Body, kind: str) -> Body:
    return {
        "id": str(body.get("rid", "mock")),
        "object": kind,
        "created": CREATED_S,
        "model": body.get("model", state.model),
    }


def _choice(finish_reason: str | None, **content: object) -> Body:
    return {
        "index": 0,
        **content,
        "logprobs": None,
        "finish_reason": finish_reason,
        "matched_stop": None,
    }


def _wants_usage(body: Body) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _chat(state: EngineState, body: Body) -> Script:
    if not isinstance(body.get("messages"), list):
        return error_answer(400, "messages: Field required")
    num_tokens = _openai_num_tokens(state, body)
    usage = _usage(len(body["messages"]), num_tokens)
    if not body.get("stream"):
        text = "".join(_token(index) for index in range(num_tokens))
        message = {"role": "assistant", "content": text, "reasoning_content": None}
        head = _openai_head(state, body, "chat.completion")
        return json_answer({**head, "choices": [_choice("length", message=message)],
                            "usage": usage, "metadata": {"weight_version": "default"}})  # fmt: skip
    head = _openai_head(state, body, "chat.completion.chunk")
    deltas: list[tuple[Body, str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": _token(index)}, None) for index in range(num_tokens)]
    deltas.append(({}, "length"))
    events = [
        event({**head, "choices": [_choice(end, delta={"reasoning_content": None, **delta})]})
        for delta, end in deltas
    ]
    if _wants_usage(body):
        events.append(event({**head, "choices": [], "usage": usage}))
    return sse_answer([*events, DONE], state.token_interval_s)


def _completion(state: EngineState, body: Body) -> Script:
    if "prompt" not in body:
        return error_answer(400, "prompt: Field required")
    num_tokens = _openai_num_tokens(state, body)
    usage = _usage(len(body["prompt"]), num_tokens)
    head = _openai_head(state, body, "text_completion")
    if not body.get("stream"):
        text = "".join(_token(index) for index in range(num_tokens))
        return json_answer({**head, "choices": [_choice("length", text=text)], "usage": usage,
                            "metadata": {"weight_version": "default"}})  # fmt: skip
    events = [
        event({**head, "choices": [_choice("length" if index + 1 == num_tokens else None,
                                           text=_token(index))], "usage": None})
        for index in range(num_tokens)
    ]  # fmt: skip
    if _wants_usage(body):
        events.append(event({**head, "choices": [], "usage": usage}))
    return sse_answer([*events, DONE], state.token_interval_s)


def _embeddings(state: EngineState, body: Body) -> Script:
    inputs = body.get("input")
    items = inputs if isinstance(inputs, list) else [inputs]
    data = [
        {"object": "embedding", "embedding": [0.5, -0.5], "index": index}
        for index in range(len(items))
    ]
    head = {"object": "list", "data": data, "model": body.get("model", state.model)}
    return json_answer({**head, "usage": _usage(len(items), 0)})


def _rerank(state: EngineState, body: Body) -> Script:
    documents = body.get("documents")
    if not isinstance(documents, list):
        return error_answer(400, "documents: Field required")
    return json_answer(
        [{"score": 1.0 / (index + 1), "document": document, "index": index, "meta_info": None}
         for index, document in enumerate(documents)]
    )  # fmt: skip


def _score(state: EngineState, body: Body) -> Script:
    items = body.get("items")
    count = len(items) if isinstance(items, list) else 1
    scores = [[0.5]] * count
    return json_answer({"scores": scores, "model": body.get("model", state.model),
                        "usage": _usage(count, 0), "object": "scoring"})  # fmt: skip


def _classify(state: EngineState, body: Body) -> Script:
    data = [{"index": 0, "label": "LABEL_0", "probs": [1.0], "num_classes": 1}]
    return json_answer({"id": "classify-mock", "object": "list", "created": CREATED_S,
                        "model": body.get("model", state.model), "data": data})  # fmt: skip


def _responses(state: EngineState, body: Body) -> Script:
    return json_answer({"id": "resp_mock", "object": "response", "created_at": CREATED_S,
                        "model": body.get("model", state.model), "status": "completed",
                        "output": []})  # fmt: skip


def _tokenize(state: EngineState, body: Body) -> Script:
    tokens = list(range(len(str(body.get("prompt", "")))))
    return json_answer({"tokens": tokens, "count": len(tokens), "max_model_len": 4096})


def _detokenize(state: EngineState, body: Body) -> Script:
    tokens = body.get("tokens")
    return json_answer({"text": "".join(map(str, tokens)) if isinstance(tokens, list) else ""})


_POST: dict[str, Callable[[EngineState, Body], Script]] = {
    "/generate": _generate,
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/embeddings": _embeddings,
    "/rerank": _rerank,
    "/v1/rerank": _rerank,
    "/v1/score": _score,
    "/v1/classify": _classify,
    "/v1/responses": _responses,
    "/tokenize": _tokenize,
    "/v1/tokenize": _tokenize,
    "/detokenize": _detokenize,
    "/v1/detokenize": _detokenize,
}
