"""All that tests use of Flower's private modules, and the package does not."""

import warnings
from typing import Any

from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.cli.app_cmd.publish import _collect_file_paths as collect_file_paths
from flwr.cli.app_cmd.publish import _validate_files as validate_files
from flwr.common.constant import FAB_MAX_SIZE
from flwr.proto.control_pb2 import ListNodesRequest, ListNodesResponse
from flwr.proto.node_pb2 import Node, NodeInfo
from flwr.supercore.constant import MAX_FILE_BYTES, MAX_FILE_COUNT, MAX_TOTAL_BYTES
from flwr.supercore.exit.exit_handler import trigger_exit_handlers
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.primitives.asymmetric import (
    bytes_to_public_key,
    generate_key_pairs,
    public_key_to_bytes,
    verify_signature,
)
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from flwr.supercore.version import package_version
from flwr.superlink.routers.fleet.router import router
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

__all__ = [
    "FAB_MAX_SIZE",
    "MAX_FILE_BYTES",
    "MAX_FILE_COUNT",
    "MAX_TOTAL_BYTES",
    "PROTOBUF_REQUEST_TYPES",
    "FleetHttpClient",
    "ListNodesRequest",
    "ListNodesResponse",
    "Metadata",
    "Node",
    "NodeAuthHttpInterceptor",
    "NodeInfo",
    "bytes_to_public_key",
    "collect_file_paths",
    "flwr_app",
    "generate_key_pairs",
    "get_all_nested_objects",
    "make_message",
    "package_version",
    "public_key_to_bytes",
    "router",
    "trigger_exit_handlers",
    "validate_files",
    "verify_signature",
]


def flwr_app() -> Any:
    """The Typer app behind the command `flwr`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # not ours
        from flwr.cli.app import app
    return app
