"""A Celery task of two parts; its worker dies in the second, after its effect.

python on_celery.py broker           # a Redis server of Python, which tells its port
python on_celery.py send early
python on_celery.py worker           # twice
"""

import os
import sys
from pathlib import Path

from celery import Celery
from celery.signals import worker_ready
from common import die_once, note

FOLDER = os.environ["PEERS_FOLDER"]
VISIBILITY_SECONDS = 2
app = Celery("peers", broker=os.environ.get("PEERS_BROKER", ""))
app.conf.broker_transport_options = {"visibility_timeout": VISIBILITY_SECONDS, "polling_interval": 0.2}
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_enable_remote_control = False


def both() -> None:
    note(FOLDER, "one")
    note(FOLDER, "two")
    die_once(FOLDER)
    note(FOLDER, "end")


@app.task(name="early")
def early() -> None:
    both()


def broker() -> None:
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", 0))
    print(server.server_address[1], flush=True)
    server.serve_forever()


def worker() -> None:
    worker_ready.connect(lambda **_: (Path(FOLDER) / "ready").touch(), weak=False)
    app.worker_main(["worker", "--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat"])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["broker"]:
            broker()
        case ["worker"]:
            worker()
        case ["send", name]:
            app.tasks[name].delay()
