"""The fields of trigger forms."""

import pytest
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import ParamValidationError

from lifecycle.params import flag, optional, required_text, table


def test_description_tells_bounds_and_what_counts_where_nothing_is_given():
    trials = optional("integer", "Trials", "Of tuning.", otherwise="30", minimum=1, maximum=1000)
    assert trials.description == "Of tuning. From 1 to 1000. Leave empty for 30."
    version = optional("integer", "Version", "Of the registry.", otherwise="the champion", minimum=1)
    assert version.description == "Of the registry. From 1 on. Leave empty for the champion."
    note = optional("string", "Note", "For the approver.", otherwise="no note", maxLength=500)
    assert note.description == "For the approver. At most 500 characters. Leave empty for no note."
    assert table("Table", "").description.endswith(". The settings name none, so name one here.")


@pytest.mark.parametrize("param", [optional("string", "a", "", otherwise="b"), flag("a", "b")])
def test_field_may_stay_as_it_is(param):
    """Airflow's form takes neither an empty text nor a switch for a value, where the type is not null too."""
    assert "null" in param.schema["type"]
    assert not ParamsDict({"one": param}).validate()["one"]


@pytest.mark.parametrize("text", [None, "", "no"])
def test_required_text_is_asked_for(text):
    params = ParamsDict({"reason": required_text("Reason", "Why.")}, suppress_exception=True)
    params["reason"] = text
    params.suppress_exception = False
    with pytest.raises(ParamValidationError):
        params.validate()
