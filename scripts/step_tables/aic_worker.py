"""Answers step times from aiconfigurator-core; runs in that package's own environment.

Arguments: model (a name that the package knows, or a folder with a config.json), system, devices.
Reads one JSON list `[kind, *coordinates]` a line, writes one JSON number of milliseconds a line, or
null for a point that the package has no data for.
"""

import json
import logging
import sys

from aiconfigurator_core.sdk.engine import EngineHandle


def main() -> None:
    logging.disable(logging.WARNING)
    model, system, num_devices = sys.argv[1:]
    engine = EngineHandle.compile(model, system, "sglang", tp_size=int(num_devices))
    for line in sys.stdin:
        latency_ms: float | None
        try:
            latency_ms = answer(engine, *json.loads(line))
        except (ValueError, RuntimeError):
            latency_ms = None
        print(json.dumps(latency_ms), flush=True)


def answer(engine: EngineHandle, kind: str, *key: int) -> float:
    if kind == "prefill":
        num_prompts, num_new, num_prefix = key
        return float(engine.predict_prefill_latency(num_prompts, num_prefix + num_new, num_prefix))
    if kind == "decode":
        num_running, context = key
        return float(engine.decode_step_latency(num_running, context, 2))
    num_prompts, num_new, _, num_running, context = key
    # It takes running requests to be half-way through their output, of this many tokens.
    num_output = 2 * (context - num_new)
    totals = engine.mixed_step_breakdown(num_prompts * num_new, num_running, num_new, num_output)
    return float(totals[0])


if __name__ == "__main__":
    main()
