"""What a definition may not say, the names that follow from it, and how definitions are found."""

import re
import shutil
import sys

import msgspec
import pytest

import use_cases
from serving.scoring.contract import Field
from tests.support import names
from tests.support.definitions import define
from tests.support.every_use_case import found_in
from tests.support.repairs import REPAIRS
from training import use_case as definitions
from training.forecasting.definition import Known, Quantity
from training.use_case import Binary, Group, Thresholds, UseCaseError, column_name


def field(name="x", kind="integer", **rest):
    return Field(name, kind, "Something", 1, **({"minimum": 0, "maximum": 9} if kind != "category" else {}) | rest)


def with_field(*fields):
    return {"fields": (*REPAIRS.fields, *fields)}


FAULTS = {
    "name with a capital": ({"name": "Repairs"}, "its name may hold lower-case letters, digits and _, at most 30"),
    "name that is a word of Python": ({"name": "class"}, "its name is a word of Python: choose another"),
    "field that JSON escapes": (with_field(field('say "so"')), "'say \"so\"' holds a quotation mark, a backslash or a"),
    "name too long": ({"name": "r" * 31}, "at most 30"),
    "no title": ({"title": " "}, "title is empty: write a sentence"),
    "no purpose": ({"purpose": ""}, "purpose is empty"),
    "no days": ({"horizon_days": 0}, "horizon_days and trials are at least 1"),
    "no trials": ({"trials": 0}, "horizon_days and trials are at least 1"),
    "label among the fields": (
        {"label": Binary("maker")},
        "the label maker is among the fields: a request cannot know",
    ),
    "label of one value": ({"label": Binary("broken", positive="1", negative="1")}, "both values of the label are '1'"),
    "columns alike but for case": (with_field(field("Order")), "'order' and 'Order' become the same column 'order_'"),
    "key that is not a field": ({"key": "number"}, "the key number is not a field"),
    "key that is a feature": ({"key": "maker"}, "the key maker is a feature: give it role='carried'"),
    "no feature": (
        {"fields": tuple(f for f in REPAIRS.fields if not f.feature), "groups": REPAIRS.groups[:1]},
        "no field has role='feature': the model would see nothing",
    ),
    "category without categories": (with_field(field("x", "category")), "x lists no categories"),
    "kind that there is not": (with_field(field("x", "text")), "fields: Invalid enum value 'text' - at `$[8].kind`"),
    "number in the place of a text": ({"owner": 7}, "owner: Expected `str`, got `int`"),
    "trials as a text": ({"trials": "30"}, "trials: Expected `int`, got `str`"),
    "limit in per cent": (
        {"thresholds": Thresholds(maximum_calibration_error=12)},
        "thresholds: Expected `float` <= 1.0 - at `$.maximum_calibration_error`",
    ),
    "schedule in words": ({"score_schedule": "every monday"}, "score_schedule is 'every monday': give the five parts"),
    "category twice": (with_field(field("x", "category", categories=("a", "b", "a"))), "x lists a category twice"),
    "example out of range": (with_field(field(maximum=0)), "the example 1 of x is not a value of the field"),
    "example with a fraction": (
        with_field(Field("x", "integer", "X", 1.5, minimum=0, maximum=9)),
        "the example 1.5 of x",
    ),
    "example that is not listed": (
        with_field(Field("x", "category", "X", "c", categories=("a", "b"))),
        "the example 'c' of x is not a value of the field: give one",
    ),
    "example of another kind": (
        with_field(Field("x", "number", "X", "1", minimum=0, maximum=9)),
        "the example '1' of x",
    ),
    "number without a range": (with_field(field(maximum=None)), "x needs a minimum and a maximum, in this order"),
    "range upside down": (with_field(field(minimum=10)), "x needs a minimum and a maximum, in this order"),
    "endless range": (with_field(field(maximum=float("inf"))), "x needs a minimum and a maximum"),
    "group that is not a field": ({"groups": (*REPAIRS.groups, Group("age"))}, "the group age is not a field"),
    "bands that do not ascend": (
        {"groups": (REPAIRS.groups[0], Group("order", (20, 10), "it wears"))},
        "the bands of group order do not ascend: 20, 10",
    ),
    "bands of a category": (
        {"groups": (Group("region", (1, 2)), REPAIRS.groups[1])},
        "region is a category: it has no bands",
    ),
    "number without bands": (
        {"groups": (*REPAIRS.groups, Group("heat", fed_because="it wears"))},
        "heat is a number: give its group bands",
    ),
    "protected and fed without a reason": (
        {"groups": (*REPAIRS.groups, Group("maker"))},
        "maker is compared and fed to the model: give its group fed_because, or role='compared'",
    ),
    "compared by no group": ({"groups": REPAIRS.groups[1:]}, "region has role='compared' and no group"),
}


@pytest.mark.parametrize(("changes", "message"), FAULTS.values(), ids=FAULTS)
def test_definition_that_contradicts_itself_is_refused_with_what_to_do(changes, message):
    with pytest.raises(UseCaseError) as refused:
        msgspec.structs.replace(REPAIRS, **changes)
    assert message in str(refused.value)
    assert "contradicts itself" in str(refused.value)


DEMAND = definitions.load("demand")


def series(**changes):
    return {"series": msgspec.structs.replace(DEMAND.forecast, **changes)}


def other(which, **changes):
    """The fields with one of them changed."""
    return {"fields": tuple(msgspec.structs.replace(f, **changes) if f.name == which else f for f in DEMAND.fields)}


FORECAST_FAULTS = {
    "server": ({"online": True}, "forecasts have no scoring server, set online=False"),
    "groups": ({"groups": (Group("deal"),)}, "has groups: forecasts are compared over series, remove them"),
    "key beside the series": ({"key": "store"}, "key is store: the series say what tells rows apart"),
    "no series": ({"series": None}, "series is missing: say what tells one series from another"),
    "two labels": ({"label": Quantity("amount")}, "the label is amount, and that of the series units: make them the"),
    "label of another unit": ({"label": Quantity("units", unit="boxes")}, "make them the same"),
    "series of a field that is not there": (series(unknown=("out_of_stock", "gone")), "the series name gone, which is"),
    "field that no series has": (series(unknown=(), censored=""), "out_of_stock is a field and not in the series"),
    "field with the name of a forecast's column": (
        {**other("price", name="origin"), **series(known=(Known("origin", "last"), *DEMAND.forecast.known[1:]))},
        "origin is a column of every forecast: rename the field",
    ),
    "time among the fields": ({"fields": (*DEMAND.fields, field("week"))}, "the time week is among the fields"),
    "category that is planned": (other("deal", kind="category"), "deal is a category: outside the key, series take"),
    "number in the key": (other("item", kind="number"), "item is a number and in the key: make it an integer or"),
}


@pytest.mark.parametrize(("changes", "message"), FORECAST_FAULTS.values(), ids=FORECAST_FAULTS)
def test_definition_of_forecasts_that_contradicts_itself_is_refused_with_what_to_do(changes, message):
    with pytest.raises(UseCaseError) as refused:
        msgspec.structs.replace(DEMAND, **changes)
    assert message in str(refused.value)


def test_series_of_a_label_with_two_values_are_refused():
    with pytest.raises(UseCaseError, match="series goes with a label that is a Quantity: remove it, or change"):
        msgspec.structs.replace(REPAIRS, series=DEMAND.series)


def test_all_faults_of_a_definition_are_told_at_once():
    with pytest.raises(UseCaseError) as refused:
        msgspec.structs.replace(REPAIRS, title="", key="maker", groups=())
    assert str(refused.value).count(";") == 2


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("Age", "Age"),
        ("Monthly Income (EUR)", "Monthly_Income_EUR"),
        ("naïve", "naive"),
        ("order", "order_"),
        ("source", "source_"),
        ("1st_job", "c_1st_job"),
        ("???", "c"),
    ],
)
def test_column_is_one_that_sql_takes(name, column):
    assert column_name(name) == column
    assert column.isidentifier()


def test_names_of_attrition_stay_what_they_are():
    attrition = definitions.load("attrition")
    assert names.dags(attrition) == {f"attrition_{kind}" for kind in names.KINDS}
    assert {"train", "release", "rollback", "retrain_nightly", "stop", "resume", "score"} <= set(names.KINDS)
    assert (attrition.title, attrition.model_name) == ("Employee Attrition API", "employee_attrition")
    assert (attrition.image, attrition.namespace("staging")) == ("attrition-scoring", "attrition-staging")
    assert (attrition.folder / attrition.data).is_file()


BROKEN = {
    "does not import": ("import nothing_of_this_name", "use_cases/own does not import: ModuleNotFoundError"),
    "defines nothing": ("X = 1", r"use_cases/own/__init__.py defines no USE_CASE"),
    "has another name": ("from tests.support.repairs import REPAIRS as USE_CASE", "defines a use case named 'repairs'"),
    "contradicts itself": (
        "import msgspec\nfrom tests.support.repairs import REPAIRS\n"
        "USE_CASE = msgspec.structs.replace(REPAIRS, name='own', key='maker')",
        "the key maker is a feature",
    ),
    "takes another's title": (
        "import msgspec\nfrom training.use_case import load\n"
        "USE_CASE = msgspec.structs.replace(load('attrition'), name='own')",
        r"own has the title of \S+/use_cases/attrition, 'Employee Attrition API', by which .*; \S+/own has the model "
        r"of \S+/attrition, 'employee_attrition': give it another one in model. Until then it has no DAGs$",
    ),
    "takes another's model in capitals": (
        "import msgspec\nfrom training.use_case import load\n"
        "USE_CASE = msgspec.structs.replace(load('attrition'), name='own', title='Own', model='Employee_Attrition')",
        r"^\S+/own has the model of \S+/use_cases/attrition, 'employee_attrition': give it another",
    ),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_definition_is_one_clear_error_and_costs_no_other_one(text, message, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").write_text(text)
    monkeypatch.setattr(use_cases, "__path__", [*use_cases.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "use_cases.own", raising=False)
    definitions.load.cache_clear()
    try:
        loaded, faults = definitions.load_all()
    finally:
        sys.modules.pop("use_cases.own", None)
        definitions.load.cache_clear()
    assert "attrition" in {use_case.name for use_case in loaded}
    assert len(faults) == 1
    assert re.search(message, str(faults[0]))


def test_folder_of_a_name_that_is_taken_is_named_with_the_one_that_counts(tmp_path):
    """Python imports the first folder of a name, and the other was left out without a word."""
    define(tmp_path, "attrition")
    with found_in(tmp_path):
        loaded, (fault,) = definitions.load_all()
    assert "Employee Attrition API" in {use_case.title for use_case in loaded}
    assert str(fault) == (
        f"{tmp_path}/attrition has the name of {definitions.load('attrition').folder}, which counts, and says "
        "something else: rename the folder and the use case in it, or bring both to one state. Until then nobody reads "
        "it"
    )


def test_copy_of_a_folder_is_no_fault(tmp_path):
    """Compose mounts the use cases that its image has too; once that was an import error."""
    shutil.copytree(definitions.load("attrition").folder, tmp_path / "attrition")
    with found_in(tmp_path):
        assert definitions.load_all()[1] == ()
    (tmp_path / "attrition" / "fields.py").write_text("FIELDS = ()\n")
    with found_in(tmp_path):
        assert len(definitions.load_all()[1]) == 1


def test_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(UseCaseError, match=r"there is no use case 'churn': use one of .*attrition"):
        definitions.load("churn")
