"""Clients of redis-py, with hiredis if it is installed, or by redis-py's own Python."""

from typing import Any, Final

import redis
from redis._parsers import Encoder, _RESP2Parser
from redis.connection import PythonRespSerializer

CUTOFF: Final = 6000
"""How many bytes redis-py puts together before it sends them."""


def redis_client(port: int, *, hiredis: bool = True) -> redis.Redis:
    """Return a client. hiredis: whether that may be used."""
    if hiredis:
        return redis.Redis(port=port)
    encoder: Any = Encoder
    packer = PythonRespSerializer(CUTOFF, encoder("utf-8", "strict", False).encode)
    pool = redis.ConnectionPool(port=port, parser_class=_RESP2Parser, command_packer=packer)
    return redis.Redis(connection_pool=pool)
