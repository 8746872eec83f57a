"""What a sender says it wrote, piece by piece, and whether that is all of it. Pure."""

from collections.abc import Iterable

import msgspec


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Some tokens of one layer, keys and values."""

    layer: int
    first_token: int
    num_tokens: int
    digest: bytes
    """xxh3_128 of the keys of the tokens in order, then of the values."""


def coverage_problem(pieces: Iterable[Piece], *, num_layers: int, num_tokens: int) -> str | None:
    """Return what is wrong unless each token of each layer is in exactly one piece."""
    by_layer: dict[int, list[Piece]] = {layer: [] for layer in range(num_layers)}
    for piece in pieces:
        if piece.layer not in by_layer:
            return f"there is no layer {piece.layer}"
        by_layer[piece.layer].append(piece)
    for layer, of_layer in by_layer.items():
        reached = 0
        for piece in sorted(of_layer, key=lambda piece: piece.first_token):
            if piece.first_token != reached or piece.num_tokens < 1:
                return (
                    f"layer {layer}: a piece begins at token {piece.first_token} "
                    f"where {reached} is next"
                )
            reached += piece.num_tokens
        if reached != num_tokens:
            return f"layer {layer} has {reached} of {num_tokens} tokens"
    return None
