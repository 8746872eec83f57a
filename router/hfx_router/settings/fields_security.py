"""Who may call the router. What the router cannot enforce yet is refused, never ignored."""

from functools import partial

from hfx_router.settings.field import Arity, Group, SettingsFields, Status, setting
from hfx_router.settings.values import ControlPlaneKeys, Texts, Token

_keys = partial(setting, group=Group.SECURITY)
_tls = partial(
    setting,
    group=Group.TLS,
    status=Status.REFUSED,
    advice="TLS is not supported; put a TLS-terminating proxy in front of the router or the worker",
    metavar="FILE",
)
_jwt = partial(
    setting,
    group=Group.JWT,
    status=Status.REFUSED,
    advice="JWT is not supported; protect the control plane with --control-plane-api-keys",
)


class KeyFields(SettingsFields):
    """API keys."""

    api_key: Token | None = _keys(
        None,
        "Bearer key that clients must send, and that workers are called with.",
        metavar="KEY",
        is_secret=True,
    )
    control_plane_api_keys: ControlPlaneKeys = _keys(
        (),
        "Keys for the control plane; the role is admin (may change workers) or user (may read).",
        arity=Arity.ANY,
        metavar="ID:NAME:ROLE:KEY",
        is_secret=True,
    )
    control_plane_audit_enabled: bool = _keys(
        False,
        "Log every call of the control plane apart.",
        status=Status.UNBACKED,
        advice="there is no separate audit log; control-plane calls are in the ordinary log",
    )


class TlsFields(SettingsFields):
    """Certificates for clients (`tls_*`) and for workers."""

    tls_cert_path: str | None = _tls(None, "Certificate of the router.")
    tls_key_path: str | None = _tls(None, "Private key of the router.")
    client_cert_path: str | None = _tls(None, "Certificate to show to workers.")
    client_key_path: str | None = _tls(None, "Private key for the certificate shown to workers.")
    ca_cert_paths: Texts = _tls(
        (), "Authorities that sign the workers' certificates.", arity=Arity.ANY
    )


class JwtFields(SettingsFields):
    """JWT and OIDC for the control plane."""

    jwt_issuer: str | None = _jwt(None, "OIDC issuer.", metavar="URL")
    jwt_audience: str | None = _jwt(None, "Audience that a token must name.")
    jwt_jwks_uri: str | None = _jwt(None, "Keys of the issuer.", metavar="URL")
    jwt_role_mapping: Texts = _jwt(
        (), "Roles of the issuer to roles here.", arity=Arity.ANY, metavar="ROLE=admin|user"
    )
