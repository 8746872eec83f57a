"""Compares the weights that two servers hold, tensor by tensor, by SGLang's own digests."""

from collections.abc import Mapping
from typing import Any

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.sglang.weights.http_json import ask_json

Checksums = Mapping[tuple[str, int, int], Mapping[str, str]]
"""By role of the model and tensor and pipeline rank: the digest of each tensor by its name."""

_SHOWN = 3


def ask_checksums(url: str, *, timeout_s: float) -> Checksums:
    """Let a server digest its weights; it serves nothing meanwhile.

    Raises:
        TransferError: it does not answer in time, or with anything but digests.
    """
    answer = ask_json(url, "/weights_checker", timeout_s=timeout_s, body={"action": "checksum"})
    try:
        return _parse(answer)
    except (KeyError, TypeError, AttributeError) as exc:
        raise TransferError(
            f"/weights_checker is answered with something else than digests ({exc!r})",
            fault=TransferFault.PROTOCOL,
        ) from exc


def _parse(answer: Any) -> Checksums:
    found: dict[tuple[str, int, int], Mapping[str, str]] = {}
    for group in answer["ranks"]:
        places = group["parallelism_info"]
        for place in places if isinstance(places, list) else [places]:
            key = (place["role"], place["tp_rank"], place["pp_rank"])
            found[key] = {str(name): str(digest) for name, digest in group["checksums"].items()}
    if not any(found.values()):
        raise KeyError("checksums")
    return found


def num_tensors(checksums: Checksums) -> int:
    """Return how many tensors were digested, each on all of its ranks."""
    return sum(len(tensors) for tensors in checksums.values())


def difference(source: Checksums, clone: Checksums) -> str | None:
    """Return in what the clone's weights differ from those of the source; None when in nothing."""
    if source.keys() != clone.keys():
        return f"it has ranks {sorted(clone)}, the source {sorted(source)}"
    wrong: list[str] = []
    for place, tensors in source.items():
        theirs = clone[place]
        names = sorted(tensors.keys() | theirs.keys())
        wrong += [name for name in names if tensors.get(name) != theirs.get(name)]
    if not wrong:
        return None
    shown = ", ".join(wrong[:_SHOWN]) + (", ..." if len(wrong) > _SHOWN else "")
    return f"{len(wrong)} of {num_tensors(source)} tensors differ from the source's: {shown}"
