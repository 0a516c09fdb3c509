"""Define the commands ``kgsm-infer watch`` and ``serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.command import note, say

GatewayArgument = Annotated[Path, typer.Argument(help="gateway.toml (docs/gateway.md)")]
Proxy = Annotated[
    bool, typer.Option("--behind-proxy", help="a proxy on this network terminates TLS")
]


def watch(
    gateway: GatewayArgument,
    once: Annotated[
        bool, typer.Option("--once", help="process the files present, then end")
    ] = False,
    proxy: Proxy = False,
    back: Annotated[bool, typer.Option("--roll-back", help="restore the previous model")] = False,
    remove: Annotated[
        tuple[str, str] | None,
        typer.Option("--remove", metavar="PADDOCK DATE", help="remove an acquisition"),
    ] = None,
) -> None:
    """Process incoming scenes and tables, and publish the results.

    Checks the files in the spool folder, retrieves soil moisture, stores, publishes and serves it.

    Example: kgsm-infer watch gateway.toml
    """
    from .config import read_gateway
    from .service.loop import remove_acquisition, roll_back_model, watch

    config = read_gateway(gateway)
    if back:
        say(f"{roll_back_model(config)} is in use again; a running gateway must be restarted")
    elif remove is not None:
        request = remove_acquisition(config, *remove)
        say(f"{request} asks for it; a running watch, or the next one, removes the acquisition")
    elif remains := watch(config, once=once, behind_proxy=proxy):
        if remains.quarantined:
            note(f"{remains.quarantined} files went to {config.quarantine}, each with its reason")
        if remains.left_behind:
            note(f"{remains.left_behind} files stayed in {config.spool}")
        if remains.unsent:
            note(f"{remains.unsent} messages were not sent; the next watch sends them")
        if remains.short:
            note(f"processing stopped: {remains.short}")
        if once:
            raise typer.Exit(3)


def serve(gateway: GatewayArgument, proxy: Proxy = False) -> None:
    """Serve only the API and the page of a gateway.

    Use it for a gateway whose watch runs without them (with_watch = false).

    Example: kgsm-infer serve gateway.toml
    """
    from .config import read_gateway
    from .service.loop import serve

    serve(read_gateway(gateway), behind_proxy=proxy)
