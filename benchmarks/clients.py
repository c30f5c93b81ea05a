"""Clients of redis-py, with hiredis if it is installed, or by redis-py's own Python."""

import redis
from redis._parsers import Encoder, _RESP2Parser
from redis.connection import PythonRespSerializer

CUTOFF = 6000  # redis-py's own


def redis_client(port: int, *, hiredis: bool = True) -> redis.Redis:
    """Return a client. hiredis: whether that may be used."""
    if hiredis:
        return redis.Redis(port=port)
    encode = Encoder("utf-8", "strict", decode_responses=False).encode
    packer = PythonRespSerializer(CUTOFF, encode)
    pool = redis.ConnectionPool(port=port, parser_class=_RESP2Parser, command_packer=packer)
    return redis.Redis(connection_pool=pool)
