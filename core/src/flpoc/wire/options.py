"""The options of every gRPC channel and server, in one place."""

from __future__ import annotations

from typing import Any

#: Size of the pieces in which files travel.
CHUNK_BYTES = 1 << 20

#: Both services, and the methods behind them.
SITE_SERVICE = "flpoc.Site"
USER_SERVICE = "flpoc.User"

#: What a server takes in one message, and what it answers: logs make long answers.
REQUEST_BYTES = (4 << 20) + 4096
ANSWER_BYTES = (8 << 20) + 4096
_BOTH: list[tuple[str, Any]] = [
    ("grpc.max_metadata_size", 16 << 10),
    # bandwidth probing costs a round trip per window and keeps windows small on loopback
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
]


def server_options(connections: int) -> list[tuple[str, Any]]:
    """Options of a server that takes so many connections at a time."""
    return [
        *_BOTH,
        ("grpc.max_receive_message_length", REQUEST_BYTES),
        ("grpc.max_send_message_length", ANSWER_BYTES),
        # without this, a second server silently shares the port
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        # who connects and then says nothing, or drips, is cut off
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 600_000),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_concurrent_streams", 1024),
    ]


def channel_options(certificate_name: str = "", *, separate: bool = False) -> list[tuple[str, Any]]:
    """Options of a channel to a server whose certificate carries *certificate_name*.

    With *separate*, the channel has a connection of its own, so that bulk
    data never stands before control messages.
    """
    options = [
        *_BOTH,
        ("grpc.max_receive_message_length", ANSWER_BYTES),
        ("grpc.max_send_message_length", REQUEST_BYTES),
        # gRPC's own back-off grows to two minutes
        ("grpc.initial_reconnect_backoff_ms", 100),
        # this one is also the time that one attempt to connect gets
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.enable_http_proxy", 0),
    ]
    if certificate_name:
        options.append(("grpc.ssl_target_name_override", certificate_name))
    if separate:
        options.append(("grpc.use_local_subchannel_pool", 1))
    return options
