"""Makes a tiny Llama checkpoint with random weights, so that real servers run without a download.

Run by the interpreter of the SGLang environment (torch, transformers, tokenizers). The weights
are seeded: every machine gets the same greedy answers. The words mean nothing.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

VOCABULARY_SIZE = 512
"""Width of the output layer; the byte-level tokenizer below fills 341 of it."""
HEAD_SIZE = 32
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
CORPUS = (
    "the quick brown fox jumps over the lazy dog. hello world, how are you today? "
    "one two three four five six seven eight nine ten."
)
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULT_DIR = Path(__file__).resolve().parents[2] / ".hfx" / "tiny-llama"


def save_tokenizer(folder: Path, context_tokens: int) -> None:
    """Train a byte-level BPE on a few sentences; any text can be encoded with it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # A pair must occur more than once to be merged, hence the repetition.
    bpe.train_from_iterator([CORPUS] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = context_tokens
    tokenizer.save_pretrained(folder)


def save_weights(
    folder: Path, context_tokens: int, seed: int, hidden_size: int, num_layers: int
) -> int:
    """Save random bfloat16 weights and return how many there are."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // HEAD_SIZE,
        num_key_value_heads=hidden_size // HEAD_SIZE // 2,
        max_position_embeddings=context_tokens,
        pad_token_id=SPECIAL_TOKENS.index("<pad>"),
        bos_token_id=SPECIAL_TOKENS.index("<s>"),
        eos_token_id=SPECIAL_TOKENS.index("</s>"),
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=DEFAULT_DIR, help="default: %(default)s"
    )
    parser.add_argument("--context-tokens", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--hidden-size", type=int, default=128, help=f"a multiple of {2 * HEAD_SIZE} (%(default)s)"
    )
    parser.add_argument("--layers", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--force", action="store_true", help="make it again")
    args = parser.parse_args()
    if args.hidden_size < 1 or args.hidden_size % (2 * HEAD_SIZE) or args.layers < 1:
        parser.error(f"--hidden-size must be a multiple of {2 * HEAD_SIZE}, --layers at least 1")
    folder: Path = args.folder.resolve()
    if (folder / "config.json").exists() and not args.force:
        print(f"the tiny model is ready in {folder}")
        return 0
    os.environ["HF_HUB_OFFLINE"] = "1"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its place and renamed, so that an interrupted run leaves nothing half-made there.
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        building.chmod(0o755)
        save_tokenizer(building, args.context_tokens)
        num_parameters = save_weights(
            building, args.context_tokens, args.seed, args.hidden_size, args.layers
        )
        if folder.exists():
            shutil.rmtree(folder)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    print(f"made a tiny model of {num_parameters:,} parameters in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
