"""Finds out what a request was promised. The inputs are read elsewhere; nothing is raised here."""

import hmac
import math
from dataclasses import dataclass
from enum import StrEnum

from hfx_sgl.policy.slo.config import OTHER_CLASS, RequestTraits, SloConfig, SloRule, is_class_name
from hfx_sgl.slo import Slo

NOTHING = Slo()
"""Promises nothing."""


class SloSource(StrEnum):
    """Where the bounds of a promise come from."""

    HEADER = "header"
    BODY = "body"
    CLASS = "class"
    RULE = "rule"
    DEFAULT = "default"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedSlo:
    """What a request itself asks for."""

    in_headers: Slo = NOTHING
    in_body: Slo = NOTHING
    class_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a request was promised."""

    slo: Slo = NOTHING
    class_name: str | None = None
    """The class it belongs to, whoever stated its bounds; None where it has none."""
    source: SloSource = SloSource.NONE

    @property
    def is_bounded(self) -> bool:
        """Whether there is anything to keep."""
        return self.source is not SloSource.NONE


NO_PROMISE = Promise()


class SloResolver:
    """Resolves by one configuration.

    Bounds that the request states, in headers or body, replace those of its class as a whole.
    The class is the one it names, else that of the first rule that fits, else the default one.
    """

    def __init__(self, config: SloConfig) -> None:
        self.config = config
        self.default = self._of_class(config.default_class, SloSource.DEFAULT)
        """What is promised to whoever asks for nothing and fits no rule."""

    def unstated(self, traits: RequestTraits) -> Promise:
        """Return what a request is promised that asks for nothing."""
        for rule in self.config.rules:
            if fits(rule, traits):
                return self._of_class(rule.class_name, SloSource.RULE)
        return self.default

    def stated(self, stated: StatedSlo, traits: RequestTraits) -> Promise | None:
        """Return what a request is promised; None when it names a class that is not configured."""
        name = stated.class_name
        if name is None:
            promise = self.unstated(traits)
        elif self.config.classes:
            if name not in self.config.classes:
                return None
            promise = self._of_class(name, SloSource.CLASS)
        else:
            promise = Promise(class_name=name if is_class_name(name) else OTHER_CLASS)
        own, source = _own_bounds(stated)
        if source is SloSource.NONE:
            return promise
        return Promise(slo=own, class_name=promise.class_name, source=source)

    def _of_class(self, name: str | None, source: SloSource) -> Promise:
        if name is None:
            return NO_PROMISE
        slo = self.config.classes[name]
        bounded_source = SloSource.NONE if slo == NOTHING else source
        return Promise(slo=slo, class_name=name, source=bounded_source)


def fits(rule: SloRule, traits: RequestTraits) -> bool:
    """Tell whether a request meets every condition of a rule."""
    return (
        (rule.path is None or rule.path == traits.path)
        and (rule.model is None or rule.model == traits.model)
        and (rule.api_key is None or _is_key(rule.api_key, traits.api_key))
    )


def _is_key(key: bytes, given: bytes | None) -> bool:
    """Compare in a time that does not tell how much of the key was right."""
    return given is not None and hmac.compare_digest(key, given)


def _own_bounds(stated: StatedSlo) -> tuple[Slo, SloSource]:
    """Return the bounds that a request states, and where it states the first of them."""
    if stated.in_body == NOTHING:
        is_silent = stated.in_headers == NOTHING
        return stated.in_headers, SloSource.NONE if is_silent else SloSource.HEADER
    if stated.in_headers == NOTHING:
        return stated.in_body, SloSource.BODY
    return first_of_each(stated.in_headers, stated.in_body), SloSource.HEADER


def first_of_each(first: Slo, second: Slo) -> Slo:
    """Return each bound as the first of the two states it that states it."""
    return Slo(
        ttft_s=second.ttft_s if first.ttft_s == math.inf else first.ttft_s,
        tpot_s=second.tpot_s if first.tpot_s == math.inf else first.tpot_s,
        e2e_s=second.e2e_s if first.e2e_s == math.inf else first.e2e_s,
    )
