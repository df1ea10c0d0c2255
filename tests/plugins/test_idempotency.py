"""The house rule's key: same action, same key; other action, other key; fit for every outside system."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.idempotency import MAX_LENGTH, action_key

ACTION = {
    "dag_id": "attrition_release",
    "run_id": "manual__2026-11-21T08:00:00+00:00",
    "task_id": "build",
    "purpose": "image",
}
TEXT = st.text(min_size=1, max_size=300)


def test_same_action_gives_the_same_key_on_every_machine():
    assert action_key(**ACTION) == action_key(**ACTION) == "attrition-release-image-eee7ab78e7cb"


@pytest.mark.parametrize("part", list(ACTION))
def test_any_other_part_gives_another_key(part):
    assert action_key(**ACTION) != action_key(**{**ACTION, part: ACTION[part] + "x"})


@pytest.mark.parametrize("part", list(ACTION))
def test_empty_part_is_refused_by_name(part):
    with pytest.raises(ValueError, match=part):
        action_key(**{**ACTION, part: ""})


def test_parts_do_not_run_into_each_other():
    assert action_key(**{**ACTION, "run_id": "ab", "task_id": "c"}) != action_key(
        **{**ACTION, "run_id": "a", "task_id": "bc"}
    )


@given(TEXT, TEXT, TEXT, TEXT)
def test_every_key_is_a_dns_label(dag_id, run_id, task_id, purpose):
    key = action_key(dag_id=dag_id, run_id=run_id, task_id=task_id, purpose=purpose)
    assert len(key) <= MAX_LENGTH
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", key)
