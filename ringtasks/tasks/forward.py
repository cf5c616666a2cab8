"""``inv forward``: forward a host's port to this machine."""

from __future__ import annotations

from invoke import Context

from ringtasks.errors import UsageError
from ringtasks.output import display

from . import plan
from .core_flags import is_dry
from .options import config_of, one_host, port_number, task

__all__ = ["forward"]


@task(
    help={
        "host": "one host of the inventory",
        "port": "port on the host: 6006 for TensorBoard, 8888 for Jupyter",
        "local-port": "local port (default: the same number, or a free one)",
        "to": "forward to another machine that the host can reach",
        "json": "print the ports as one JSON object when they are open",
    }
)
def forward(
    c: Context,
    host: str | None = None,
    port: str | int | None = None,
    local_port: str | int | None = None,
    to: str = "localhost",
    transport: str | None = None,
    json: bool = False,
    inventory: str | None = None,
) -> None:
    """Forward a host's port to this machine until Ctrl-C; reconnects after a lost connection."""
    from ringtasks.client.forwarding import LOOPBACK, Forwarding
    from ringtasks.client.ssh_client import SSHClient

    there = port_number("--port", port)
    if there is None:
        raise UsageError("--port is required: the port of the host")
    here = port_number("--local-port", local_port)
    config = config_of(c, one_host(c, host, inventory))
    if is_dry(c):
        options = ["-N", "-L", f"{LOOPBACK}:{here or there}:{to}:{there}"]
        plan.show([plan.HostPlan(config, transport=transport, ssh_options=options)], json=json)
        return

    def tell(text: str) -> None:
        display.say(f"{config.id}: {text}")

    with (
        SSHClient(config, transport=transport) as client,
        Forwarding(client, there, here, to=to, tell=tell) as open_port,
    ):
        if json:
            fields = {"host_id": config.id, "port": there}
            display.json_line({**fields, "local_port": open_port.local_port})
        target = f"{config.id}:{there}" if to == "localhost" else f"{to}:{there}"
        local = f"{LOOPBACK}:{open_port.local_port}"
        tell(f"forwarding {local} to {target}; press Ctrl-C to stop")
        open_port.serve()
