"""``kill -9`` at any moment: no judgement is lost, none is there twice."""

import http.client
import json
import random
import sqlite3
import time
from pathlib import Path

import pytest
from label_samples import Server, body, make_dataset

OPTIONS = ("--mode", "pair", "--repeat", "0", "--target", "100000", "--pair-scope", "all")


def rows(folder: Path) -> list[tuple]:
    """What the file holds, read by another connection than the server's."""
    db = sqlite3.connect(folder / "labels.sqlite")
    try:
        return db.execute("SELECT client_uuid, answer FROM judgements ORDER BY id").fetchall()
    finally:
        db.close()


def post_without_waiting(server: Server, content: dict) -> http.client.HTTPConnection:
    """Send an answer and do not read the reply."""
    connection = http.client.HTTPConnection(server.base.removeprefix("http://"), timeout=10)
    headers = {"Origin": server.base, "Content-Type": "application/json"}
    connection.request("POST", "/api/judgements", json.dumps(content), headers)
    return connection


def test_killed_between_commit_and_reply_a_second_post_adds_nothing(tmp_path):
    folder = make_dataset(tmp_path / "d", segments=6)
    server = Server(folder, *OPTIONS)
    content = body("ana", server.tasks("ana")["tasks"][0]["id"], "left", 2)
    connection = post_without_waiting(server, content)
    end = time.monotonic() + 10
    while not rows(folder):
        assert time.monotonic() < end
    server.kill()  # committed, and nobody has read the reply
    connection.close()
    server = Server(folder, *OPTIONS)
    assert server.tasks("ana")["progress"]["done"] == 1
    reply = server.http.post("/api/judgements", json=content).json()
    assert (reply["judgement"], reply["repeated"]) == (1, True)
    assert rows(folder) == [(content["client_uuid"], "left")]
    server.close()


def kill_often(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Answer, kill at a random moment, start again, send once more what got no reply.

    Returns:
        ``judgements`` given, ``lost``, ``doubled``, and how many kills fell ``before`` and
        ``after`` the commit of the answer under way.
    """
    rng = random.Random(seed)
    given: list[str] = []
    counts = {"before": 0, "after": 0}
    pending = None
    for _ in range(kills):
        server = Server(folder, *OPTIONS)
        if pending is not None:
            written = pending["client_uuid"] in {key for key, _ in rows(folder)}
            counts["after" if written else "before"] += 1
            reply = server.http.post("/api/judgements", json=pending)
            assert reply.status_code == 200, reply.text
            assert reply.json()["repeated"] is written
            given.append(pending["client_uuid"])
        task = server.tasks("ana")["tasks"][0]["id"]
        for _ in range(rng.randrange(4)):  # some answers with their reply
            content = body("ana", task, rng.choice(["left", "right"]), 1)
            reply = server.http.post("/api/judgements", json=content).json()
            given.append(content["client_uuid"])
            task = reply["tasks"][0]["id"]
        assert [key for key, _ in rows(folder)] == given
        pending = body("ana", task, "left", 2)
        connection = post_without_waiting(server, pending)
        time.sleep(rng.random() * 0.012)
        server.kill()
        connection.close()
    server = Server(folder, *OPTIONS)
    assert pending is not None
    server.http.post("/api/judgements", json=pending)
    given.append(pending["client_uuid"])
    server.close()
    kept = [key for key, _ in rows(folder)]
    lost, doubled = len(set(given) - set(kept)), len(kept) - len(set(kept))
    return {"judgements": len(given), "lost": lost, "doubled": doubled, **counts}


def test_kills_at_random_moments_lose_nothing(tmp_path):
    counts = kill_often(make_dataset(tmp_path / "d", segments=30), kills=4, seed=0)
    assert (counts["lost"], counts["doubled"]) == (0, 0)


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing(tmp_path):
    counts = kill_often(make_dataset(tmp_path / "d", segments=60), kills=100, seed=1)
    print(counts)
    assert (counts["lost"], counts["doubled"]) == (0, 0)
    assert counts["before"] > 0  # or the kills came too late to prove anything
    assert counts["after"] > 0  # or too early
