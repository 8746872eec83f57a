import pytest
from hfx_router.auth import ApiKeys, ControlPlaneKey, KeyRole

from hfx_sgl.errors import ForbiddenError, UnauthorizedError

ADMIN = ControlPlaneKey(key_id="k1", name="Ops Team", role=KeyRole.ADMIN, secret="boss")
USER = ControlPlaneKey(key_id="k2", name="Viewer", role=KeyRole.USER, secret="lo:ok")


@pytest.mark.parametrize("header", [None, "", "Bearer x", b"Bearer x"])
def test_without_a_key_everything_passes(header: str | bytes | None) -> None:
    ApiKeys(None).check(header)
    ApiKeys(None).check_control(header, is_change=True)


@pytest.mark.parametrize(
    "header",
    ["Bearer s3cret", b"Bearer s3cret", "bearer s3cret", "BEARER s3cret", "Bearer  s3cret "],
)
def test_right_key(header: str | bytes) -> None:
    ApiKeys("s3cret").check(header)


@pytest.mark.parametrize(
    "header",
    [None, "", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret",
     "Bearer S3CRET", b"Bearer \xff\xfe", "Bearer s3crét"],
)  # fmt: skip
def test_wrong_key(header: str | bytes | None) -> None:
    with pytest.raises(UnauthorizedError) as refused:
        ApiKeys("s3cret").check(header)
    assert "s3cret" not in str(refused.value)


def test_key_outside_ascii() -> None:
    keys = ApiKeys("schlüssel")
    keys.check("Bearer schlüssel".encode())
    keys.check("Bearer schlüssel".encode().decode("latin-1"))


def test_empty_key_is_a_key() -> None:
    with pytest.raises(UnauthorizedError):
        ApiKeys("").check(None)


def test_control_keys_by_role() -> None:
    keys = ApiKeys("s3cret", [ADMIN, USER])
    keys.check_control("Bearer boss", is_change=True)
    keys.check_control("Bearer lo:ok", is_change=False)
    with pytest.raises(ForbiddenError):
        keys.check_control("Bearer lo:ok", is_change=True)
    with pytest.raises(UnauthorizedError):
        keys.check_control("Bearer s3cret", is_change=False)
    with pytest.raises(UnauthorizedError):
        keys.check_control(None, is_change=False)
    with pytest.raises(UnauthorizedError):
        keys.check("Bearer boss")


def test_a_key_is_not_shown() -> None:
    assert "lo:ok" not in repr(USER)
