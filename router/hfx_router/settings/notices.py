"""What an operator is told once at start, although the configuration is fine."""

from hfx_router.settings.field import Status
from hfx_router.settings.model import RouterSettings
from hfx_router.settings.rules import changed_fields


def unbacked_in_use(settings: RouterSettings) -> list[str]:
    """Return one `field: what happens instead` line for each given setting without effect."""
    return [
        f"{name}: {traits.advice}" for name, traits in changed_fields(settings, Status.UNBACKED)
    ]


def startup_notices(settings: RouterSettings) -> list[str]:
    """Return `field: message` lines about combinations that are allowed but may surprise."""
    notices = []
    if settings.pd_disaggregation:
        notices += [
            f"{name}: no worker given; requests are answered 503 until one is added with "
            "POST /workers"
            for name in ("prefill", "decode")
            if not getattr(settings, name)
        ]
    else:
        if not settings.worker_urls:
            notices.append(
                "worker_urls: no worker given; requests are answered 503 until one is added with "
                "POST /workers"
            )
        notices += [
            f"{name}: has no effect without pd_disaggregation"
            for name in ("prefill_policy", "decode_policy")
            if getattr(settings, name) is not None
        ]
    return notices
