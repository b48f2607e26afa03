"""`roost worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from roost.cli import completion, options
from roost.cli.worker_line import WorkerLine


def worker(
    engines: Annotated[
        str | None,
        typer.Option(
            "--engines",
            metavar="A,B",
            help="Installed engines, `all`, or module:attribute.",
            autocompletion=completion.engines,
        ),
    ] = None,
    lanes: Annotated[
        str | None,
        typer.Option("--lanes", metavar="A,B", help="Take work of these only: high, normal, low."),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(help="Work items at a time.")] = None,
    lease: Annotated[
        str | None,
        typer.Option(
            "--lease-seconds", metavar="SECONDS", help="How long a lease lasts without a heartbeat."
        ),
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option("--grace-seconds", metavar="SECONDS", help="How long a step may go on after SIGTERM."),
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            "--health-port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Answer GET /live and /ready there, on 127.0.0.1 unless worker.health_host says otherwise.",
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Serve Prometheus' GET /metrics there, on the same host as --health-port.",
        ),
    ] = None,
    until_idle: Annotated[
        bool,
        typer.Option("--until-idle", help="Stop once all has ended, waits, is paused or of other engines."),
    ] = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Run work items until told to stop.

    SIGTERM or Ctrl-C drains: no new work, running steps finish within the grace period,
    leases are handed back at once. A second one abandons the running steps. A terminal that
    is closed (SIGHUP) drains, too, unless the worker runs under nohup. The log goes to stderr,
    as JSON lines where no person reads it (ROOST_LOG_FORMAT, ROOST_LOG_LEVEL).

    Examples:

      roost worker

      roost worker --engines watchlist --concurrency 32

      roost worker --lanes high

      roost worker --engines my_engine:MyEngine

      roost worker --health-port 8081 --metrics-port 9464
    """
    from roost.cli import serve

    serve.run(
        WorkerLine(
            engines=engines,
            lanes=lanes,
            concurrency=concurrency,
            lease_seconds=lease,
            grace_seconds=grace,
            health_port=health_port,
            metrics_port=metrics_port,
            until_idle=until_idle,
            storage=storage,
            home=home,
            config=config,
        )
    )
