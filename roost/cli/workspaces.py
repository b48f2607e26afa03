"""`roost workspace-path`."""

from __future__ import annotations

from roost.cli import options
from roost.cli.output import print_json, say


def workspace_path(
    work_id: options.WorkIdArgument,
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Print where the workspace of a work item is on this host, or would be.

    The path follows from the id; the folder is there once a step has asked for it, and until
    it is removed (see `[workspace]` in roost.toml). With --json: `path`, whether it `exists`,
    and its `source` and `base` commit.

    Examples:

      cd "$(roost workspace-path "$WORK_ID")"

      git -C "$(roost workspace-path "$WORK_ID")" log --oneline
    """
    from roost.clock import SystemClock
    from roost.names import NAMESPACE_MARK
    from roost.wiring import host_workspaces

    settings = options.settings_of(storage, home, config)
    if settings.namespace and NAMESPACE_MARK not in work_id:
        work_id = f"{settings.namespace}{NAMESPACE_MARK}{work_id}"
    workspaces = host_workspaces(settings, SystemClock()).workspaces
    path, record = workspaces.path(work_id), workspaces.record(work_id)
    if as_json:
        origin = {"source": record.source, "base": record.base} if record else {"source": None, "base": None}
        print_json({"path": str(path), "exists": record is not None, **origin})
        return
    print(path)
    if record is None:
        say(f"There is no workspace of {work_id} on this host.")
