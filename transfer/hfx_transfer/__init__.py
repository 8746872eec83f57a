"""Moves: the protocol by which a prefill worker hands a request over to a decode worker."""
