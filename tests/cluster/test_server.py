"""The broker that `sdwatch cluster up` keeps alive."""

from __future__ import annotations

from http import HTTPStatus

import psutil
import requests

from tests.cluster.machines import Cluster, cluster
from tests.support.helpers import wait_until

__all__ = ["cluster"]


def answers(cluster: Cluster) -> bool:
    conf = cluster.settings.folder / "nats.conf"
    if not conf.exists() or '"' not in conf.read_text():
        return False
    address = conf.read_text().partition("http: ")[2].partition("\n")[0].strip('"')
    try:
        answer = requests.get(f"http://{address}/healthz", timeout=1)
    except requests.RequestException:
        return False
    return answer.status_code == HTTPStatus.OK


def test_a_server_that_hangs_is_started_again(cluster: Cluster) -> None:
    wait_until(lambda: answers(cluster), 30)
    child = wait_until(lambda: cluster.server.child, 10)
    wait_until(lambda: cluster.server.health.was_healthy, 30, "it is judged from now on")
    psutil.Process(child.pid).suspend()
    wait_until(lambda: cluster.server.child is not child, 60, "another one is started")
    wait_until(lambda: answers(cluster), 30)
