"""Decides: SLO-aware routing and scaling policies for SGLang prefill and decode pools."""

__version__ = "0.1.0"
