"""Rules across fields, and refusals. Each problem is one `field: message` line."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hfx_router.settings.field import Status, Traits, traits_of
from hfx_router.workers.worker import split_worker_url

if TYPE_CHECKING:
    from hfx_router.settings.model import RouterSettings


def find_problems(settings: "RouterSettings") -> list[str]:
    """Return every rule that the settings break; none when they can be used."""
    return [
        *_refusals(settings),
        *_mode_conflicts(settings),
        *_duplicate_workers(settings),
        *_number_conflicts(settings),
    ]


def changed_fields(settings: "RouterSettings", status: Status) -> Iterator[tuple[str, Traits]]:
    """Yield the fields of this status whose value differs from the default in effect."""
    for name, field in type(settings).model_fields.items():
        traits = traits_of(field)
        value = getattr(settings, name)
        if traits.status is status and value != field.default and value not in traits.harmless:
            yield name, traits


def _refusals(settings: "RouterSettings") -> Iterator[str]:
    for name, traits in changed_fields(settings, Status.REFUSED):
        yield f"{name}: {traits.advice}"


def _mode_conflicts(settings: "RouterSettings") -> Iterator[str]:
    if settings.pd_disaggregation and settings.worker_urls:
        yield (
            "worker_urls: regular workers cannot be combined with pd_disaggregation; "
            "name prefill and decode workers instead"
        )
    if not settings.pd_disaggregation:
        for name, targets in (("prefill", settings.prefill), ("decode", settings.decode)):
            if targets:
                yield f"{name}: needs pd_disaggregation"


def _duplicate_workers(settings: "RouterSettings") -> Iterator[str]:
    named = [
        *(("worker_urls", url) for url in settings.worker_urls),
        *(("prefill", target.url) for target in settings.prefill),
        *(("decode", url) for url in settings.decode),
    ]
    seen: dict[tuple[str, int], str] = {}
    for name, url in named:
        address = split_worker_url(url)
        if address in seen:
            yield f"{name}: {url} was given already, in {seen[address]}"
        seen.setdefault(address, name)


def _number_conflicts(settings: "RouterSettings") -> Iterator[str]:
    if settings.max_concurrent_requests == 0:
        yield "max_concurrent_requests: must be at least 1, or -1 for no limit"
    initial, most = settings.retry_initial_backoff_ms, settings.retry_max_backoff_ms
    if most < initial:
        yield (
            "retry_max_backoff_ms: must not be less than retry_initial_backoff_ms "
            f"({most} < {initial})"
        )
    first, longest = settings.link_cooldown_secs, settings.link_max_cooldown_secs
    if longest < first:
        yield (
            "link_max_cooldown_secs: must not be less than link_cooldown_secs "
            f"({longest:g} < {first:g})"
        )
    if not settings.disable_prometheus and settings.prometheus_port == settings.port != 0:
        yield f"prometheus_port: must not be equal to port ({settings.port})"
