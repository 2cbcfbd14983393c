"""A look is taken when it is due or asked for, and never more often than its share of the time allows."""

import time

from runner.look import Look
from servers import wait_until

LONG = 3600.0  # seconds


def test_a_look_that_is_not_due_is_taken_when_asked_for() -> None:
    taken: list[str] = []
    look = Look(lambda what: taken.append(what) or what, LONG, share=1.0)
    assert look("early") is None
    assert look("asked for", at_once=True) is None  # it goes on in a thread
    assert wait_until(lambda: look("early"), 60, "it is found") == "asked for"
    assert taken == ["asked for"]


def test_a_long_look_is_not_followed_by_another_at_once() -> None:
    taken: list[float] = []
    look = Look(lambda: taken.append(time.monotonic()) or time.sleep(0.02) or "found", 0.0, share=0.1)
    wait_until(lambda: look(at_once=True) and len(taken) == 1, 60, "the first is over")
    wait_until(lambda: look(at_once=True), 60, "the second is over")
    first, second = taken
    assert second - first > 0.2  # what was taken, ten times, from its end on
