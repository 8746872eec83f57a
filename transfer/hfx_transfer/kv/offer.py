"""What a receiver hands to a sender, by whatever way brings the two together."""

import msgspec

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.kv.layout import KvLayout


class KvOffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One hand-off that waits for a sender. Travels as JSON."""

    host: str
    port: int
    """The receiver's control port."""
    handoff_id: str
    backend: Backend
    layout: KvLayout
    """The receiver's."""
    max_tokens: int

    def encode(self) -> str:
        """Return it as text."""
        return msgspec.json.encode(self).decode()


def decode_offer(text: str) -> KvOffer:
    """Return the offer of a text.

    Raises:
        TransferError: PROTOCOL, it is none.
    """
    try:
        return msgspec.json.decode(text, type=KvOffer)
    except msgspec.MsgspecError as exc:
        message = f"no offer of a KV hand-off: {exc}"
        raise TransferError(message, fault=TransferFault.PROTOCOL) from exc
