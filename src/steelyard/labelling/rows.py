"""Queries that give tasks and events, and the records built from their rows."""

from steelyard.labelling.records import Answer, Judgement, Question, Task

TASK = (
    "SELECT t.id, p.name, t.kind, t.scale, t.a, t.b, t.left_is_a, t.reason, t.state "
    "FROM tasks t JOIN annotators p ON p.id = t.annotator"
)
# SQLite keeps the order of cross joins, so the last answers are found from the end of the log.
EVENT = (
    "SELECT t.id, p.name, t.kind, t.scale, t.a, t.b, t.left_is_a, t.reason, t.state, "
    "j.id, j.client_uuid, j.answer, j.strength, j.response_ms, j.watched_left_s, "
    "j.watched_right_s, j.created, u.created "
    "FROM judgements j CROSS JOIN tasks t ON t.id = j.task "
    "CROSS JOIN annotators p ON p.id = t.annotator LEFT JOIN undos u ON u.judgement = j.id"
)
STANDING = "NOT EXISTS (SELECT 1 FROM undos u WHERE u.judgement = j.id)"


def task_of(row: tuple) -> Task:
    """Build a task from a row of :data:`TASK`."""
    task, annotator, kind, scale, a, b, left_is_a, reason, state = row
    return Task(task, annotator, Question(kind, a, b, bool(left_is_a), reason, scale), state)


def judgement_of(row: tuple) -> Judgement:
    """Build an event from a row of :data:`EVENT`."""
    event, uuid, *answer, created, undone = row[9:]
    return Judgement(event, task_of(row[:9]), Answer(uuid, row[0], *answer), created, undone)
