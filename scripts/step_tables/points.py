"""At which points the tables of a profile are read from aiconfigurator."""

from hfx_sgl.engine.step_times.rows import DECODE, MIXED, PREFILL, TableFormat

# fmt: off
NEW_TOKENS = (
    1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 640, 768, 1024, 1280, 1536, 1792, 2048,
    2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192, 10240, 12288, 16384, 20480, 24576, 32768,
)
PREFIX_TOKENS = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768)
NUM_PROMPTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
NUM_RUNNING = (
    1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512,
)
CONTEXT_TOKENS = (
    64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 40960,
)
MIXED_NEW_TOKENS = (1, 16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384)
MIXED_NUM_RUNNING = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# fmt: on
MIXED_PROMPT_TOKENS = 512
MIXED_OUTPUT_TOKENS = 256
MAX_STEP_TOKENS = 32_768
MAX_PROMPT_TOKENS = 40_960
MAX_DECODE_TOKENS = 1_200_000

Point = tuple[TableFormat, tuple[int, ...]]


def all_points() -> list[Point]:
    """Return every point in the order of the files."""
    return _prefill() + _decode() + _mixed()


def _prefill() -> list[Point]:
    return [
        (PREFILL, (num_prompts, num_new, num_prefix))
        for num_prompts in NUM_PROMPTS
        for num_new in NEW_TOKENS
        for num_prefix in (PREFIX_TOKENS if num_prompts == 1 else (0,))
        if num_prompts * num_new <= MAX_STEP_TOKENS and num_new + num_prefix <= MAX_PROMPT_TOKENS
    ]


def _decode() -> list[Point]:
    return [
        (DECODE, (num_running, context))
        for num_running in NUM_RUNNING
        for context in CONTEXT_TOKENS
        if num_running * context <= MAX_DECODE_TOKENS
    ]


def _mixed() -> list[Point]:
    """Steps of whole prompts beside requests that are half-way through their output."""
    points: list[Point] = []
    for num_new in MIXED_NEW_TOKENS:
        prompt = min(num_new, MIXED_PROMPT_TOKENS)
        context = prompt + MIXED_OUTPUT_TOKENS // 2
        points += [
            (MIXED, (num_new // prompt, prompt, 0, num_running, context))
            for num_running in MIXED_NUM_RUNNING
        ]
    return points
