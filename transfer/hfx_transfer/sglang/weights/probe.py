"""Asks candidates for all that decides whether weights can be taken from them."""

from urllib.parse import urlsplit

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.sglang.weights.http_json import ask_json
from hfx_transfer.sglang.weights.report import (
    RankWeights,
    SourceReport,
    parse_build,
    parse_identity,
    parse_load,
    parse_rank,
)

_WEIGHTS_PATH = "/remote_instance_transfer_engine_info"


def probe_source(url: str, *, timeout_s: float) -> SourceReport:
    """Ask one server; `timeout_s` is for each of its answers, of which there are 3 and its ranks.

    No key is sent, as SGLang's own loader sends none.

    Raises:
        TransferError: it cannot be asked that way, does not answer, or offers no weights.
    """
    _check_url(url)
    identity = parse_identity(ask_json(url, "/model_info", timeout_s=timeout_s))
    build = parse_build(ask_json(url, "/server_info", timeout_s=timeout_s))
    ranks = tuple(_ask_rank(url, rank, timeout_s) for rank in range(build.tp_size))
    names = [rank.sizes_bytes.keys() for rank in ranks]
    if any(each != names[0] for each in names):
        raise TransferError(
            "its ranks offer tensors of different names", fault=TransferFault.INCOMPATIBLE
        )
    load = parse_load(ask_json(url, "/v1/loads?include=core", timeout_s=timeout_s))
    return SourceReport(url=url, identity=identity, build=build, ranks=ranks, load=load)


def weight_version(url: str, *, timeout_s: float) -> str:
    """Ask one server which version of the weights it holds at the moment."""
    answer = ask_json(url, "/model_info", timeout_s=timeout_s)
    return parse_identity(answer).weight_version


def _ask_rank(url: str, rank: int, timeout_s: float) -> RankWeights:
    try:
        answer = ask_json(url, f"{_WEIGHTS_PATH}?rank={rank}", timeout_s=timeout_s)
    except TransferError as exc:
        if exc.fault is TransferFault.PEER_FAILED:
            # SGLang's answer to all who were started without, and when publishing has failed.
            raise TransferError(
                f"rank {rank} offers no weights: start the server with --seed-weights, and with "
                "hfx-sgl beside its SGLang if it got them from a peer or listens elsewhere than at "
                "127.0.0.1",
                fault=TransferFault.UNAVAILABLE,
            ) from exc
        raise
    return parse_rank(answer)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise TransferError(
            "SGLang's loader asks by plain http only", fault=TransferFault.INCOMPATIBLE
        )
    if parts.path.strip("/"):
        raise TransferError(
            "SGLang's loader asks at a host and a port, not below a path",
            fault=TransferFault.INCOMPATIBLE,
        )
