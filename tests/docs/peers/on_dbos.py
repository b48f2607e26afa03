"""Two steps of a DBOS workflow on SQLite; the process dies in the second, after its effect. Run it twice."""

import os
from pathlib import Path

from common import die_once, note
from dbos import DBOS, SetWorkflowID

FOLDER = os.environ["PEERS_FOLDER"]


@DBOS.step()
def one() -> None:
    note(FOLDER, "one")


@DBOS.step()
def two() -> None:
    note(FOLDER, "two")
    die_once(FOLDER)


@DBOS.workflow()
def flow() -> None:
    note(FOLDER, "body")  # the workflow's own code, between steps
    one()
    two()
    note(FOLDER, "end")


if __name__ == "__main__":
    database = f"sqlite:///{Path(FOLDER) / 'dbos.sqlite'}"
    DBOS(config={"name": "peers", "system_database_url": database, "run_admin_server": False})
    DBOS.launch()  # recovers what was pending when this program ended
    if (Path(FOLDER) / "died").exists():
        DBOS.retrieve_workflow("w").get_result()
    else:
        with SetWorkflowID("w"):
            flow()
    DBOS.destroy()
