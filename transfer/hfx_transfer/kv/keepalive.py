"""Notices that a machine went away from which nothing is heard."""

import asyncio
import socket

IDLE_S = 5
"""After so long a silence the kernel asks whether the other machine is there,"""
NUM_UNANSWERED = 3
"""and after so many questions without an answer, as long apart, the connection has broken."""


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Let a connection break within 20 s when the other machine is gone."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, NUM_UNANSWERED)
    milliseconds = IDLE_S * (NUM_UNANSWERED + 1) * 1000
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
