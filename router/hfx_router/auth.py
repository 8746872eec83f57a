"""API keys: who may send requests and who may change the workers. Answers by raising."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hfx_sgl.errors import ForbiddenError, UnauthorizedError


class KeyRole(StrEnum):
    """What the holder of a control-plane key may do."""

    ADMIN = "admin"
    """Everything."""
    USER = "user"
    """Look, change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneKey:
    """One entry of --control-plane-api-keys."""

    key_id: str
    name: str
    role: KeyRole
    secret: str = field(repr=False)


class ApiKeys:
    """The keys of one router process. Every comparison takes the same time, right or wrong.

    Args:
        api_key: guards requests and, without `control_plane_keys`, the control plane as well;
            None leaves them open.
        control_plane_keys: guard the control plane in place of `api_key`.
    """

    def __init__(
        self, api_key: str | None, control_plane_keys: Sequence[ControlPlaneKey] = ()
    ) -> None:
        self._secret = None if api_key is None else api_key.encode()
        self._control = tuple((key, key.secret.encode()) for key in control_plane_keys)

    def check(self, authorization: str | bytes | None) -> None:
        """Accept an Authorization header for requests.

        Raises:
            UnauthorizedError: a key is configured and this is not it.
        """
        if self._secret is None:
            return
        if not hmac.compare_digest(bearer_token(authorization), self._secret):
            raise UnauthorizedError("the API key is wrong")

    def check_control(self, authorization: str | bytes | None, *, is_change: bool) -> None:
        """Accept an Authorization header for the control plane.

        Raises:
            UnauthorizedError: a key is configured and this is not one.
            ForbiddenError: the key may look, but this would change something.
        """
        if not self._control:
            self.check(authorization)
            return
        token = bearer_token(authorization)
        found: ControlPlaneKey | None = None
        for key, secret in self._control:  # to the end, so that the time tells nothing
            if hmac.compare_digest(token, secret):
                found = key
        if found is None:
            raise UnauthorizedError("the control-plane API key is wrong")
        if is_change and found.role is not KeyRole.ADMIN:
            raise ForbiddenError(
                f"the key {found.key_id!r} has role {found.role}; this needs admin"
            )


def bearer_token(authorization: str | bytes | None) -> bytes:
    """Return the key in an Authorization header.

    Raises:
        UnauthorizedError: there is no header, or it holds something else.
    """
    if authorization is None:
        raise UnauthorizedError("no API key: send it as `Authorization: Bearer KEY`")
    # A header that came as text was decoded as latin-1, which keeps every byte.
    raw = authorization.encode("latin-1") if isinstance(authorization, str) else authorization
    scheme, _, token = raw.partition(b" ")
    if scheme.lower() != b"bearer":
        raise UnauthorizedError("the Authorization header must be `Bearer KEY`")
    return token.strip()
