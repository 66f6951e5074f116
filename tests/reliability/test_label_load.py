"""Fifty annotators at once lose no answer, double none, and see no error."""

from label_load import measure


def test_fifty_annotators_at_once_lose_and_double_nothing():
    run = measure(annotators=50, answers=3, think_s=0.0, segments=60)
    assert run["answers"] == 150
