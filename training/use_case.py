"""A use case: the one value that says all that differs between two models on the same rails.

A definition is the value ``USE_CASE`` of a folder in ``use_cases/`` (or in a folder that ``USE_CASES`` names). It
imports nothing heavy, because Airflow reads it whenever it parses the DAG files. What only the training job needs
stands beside it, in modules that the job imports by name (``part``): ``search.py``, ``features.py`` and ``sample.py``.
"""

import functools
import importlib
import importlib.util
import keyword
import math
import os
import pkgutil
import re
import unicodedata
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import msgspec

from serving.scoring.contract import Field
from training.forecasting.definition import ForecastThresholds, Quantity, Series
from training.kinds import KINDS, Kind

Target = Literal["staging", "production"]
"""Where a release runs."""
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
TECHNICAL_COLUMNS = ("source", "effective_date", "recorded_at", "request_id", "model_version")
"""What a curated training table holds beside fields and label. ``effective_date`` tells two records of one key apart;
``source`` marks a table that holds scored records, whose unknown categories the service has accepted."""
_TABLE_COLUMNS = (
    *TECHNICAL_COLUMNS, "record", "event_time", "received_at", "model_name", "client", "prediction", "is_outlier",
    "outlier_score", "source_night", "source_file", "source_offset", "curated_night", "day", "night", "file", "row_no",
    "file_no", "byte_offset", "newest", "bundle_digest", "base", "reasons", "other",
)  # fmt: skip
_SQL_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    all analyse analyze and anti any array as asc asof asymmetric at authorization between binary both by case
    cast check collate collation column columns concurrently constraint create cross cube current_date
    current_time current_timestamp current_user date default deferrable delete desc describe distinct do drop
    else end escape except exists false fetch filter for foreign freeze from full function generated glob
    grant group having ilike in initially inner insert intersect interval into is isnull join lambda lateral
    leading left like limit localtime map minus natural not notnull null offset on only or order outer over
    overlaps pivot pivot_longer pivot_wider placing positional primary qualify range references returning
    right rollup row rows select semi session_user set show similar some start struct summarize symmetric
    table tablesample then time timestamp to trailing true truncate try_cast union unique unknown unpack
    unpivot update user using values variadic verbose when where window with
        """,
    )
)
NOT_IN_NAMES = re.compile(r"[\"\\\x00-\x1f]")
"""What neither a title nor a field's name may hold: requests and log lines are read by them as they are."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,29}")
_SCHEDULE = re.compile(r"@(hourly|daily|weekly|monthly|quarterly|yearly)|\S+( \S+){4}")


class UseCaseError(ValueError):
    """Raised for a definition that cannot be imported or that contradicts itself; the message names the place."""


class Binary(msgspec.Struct, frozen=True, tag="binary"):
    """A label of two values. ``positive`` is the one whose probability is estimated.

    The values are spelled as a CSV file spells them: ``"Yes"``, ``"1"``, ``"true"``.
    """

    field: str
    positive: str = "Yes"
    negative: str = "No"
    positives: str = "positives"
    """What people call rows with the positive value, for example ``leavers``."""
    negatives: str = "negatives"

    @property
    def values(self) -> dict[str, int]:
        return {self.positive: 1, self.negative: 0}


class Group(msgspec.Struct, frozen=True):
    """One way to divide records into groups that the fairness report compares."""

    field: str
    bands: tuple[float, ...] = ()
    """For a number: where one band ends and the next begins, ascending. ``(30, 40)`` makes three: under 30, 30 to
    under 40, 40 and over."""
    fed_because: str = ""
    """Why the model may see this field. Empty for a field that it does not see."""


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a challenger must reach on the hold-out, whatever the champion does."""

    minimum_roc_auc: Share = 0.5
    minimum_roc_auc_low: Share = 0.5
    """For the low end of the 95% interval: a table without signal does not pass."""
    maximum_calibration_error: Share = 0.12
    """Expected calibration error."""
    maximum_fairness_gap: Share = 0.35
    """Gap in true-positive rate between groups, by the low end of its 95% interval: groups are small."""
    maximum_latency_ms: float = 5.0
    """Time to score a single record with the exported bundle, in milliseconds."""
    not_worse_than_plain: bool = True
    """Refuse a challenger that is worse than a plain logistic regression on the same rows."""


class UseCase(msgspec.Struct, frozen=True, kw_only=True):
    """One model, from its table to what its users read. Contradictions raise ``UseCaseError``."""

    name: str
    """Lower-case letters, digits and ``_``: the folder's name, and the root of every name that follows from it."""
    title: str
    """The service's name in its API description and in every log line."""
    description: str
    owner: str
    """Who answers for it: the owner of its DAGs."""
    fields: tuple[Field, ...]
    """The fields of a request, in request order."""
    label: Binary | Quantity
    key: str | None = None
    """The field that tells one entity from another. ``None``: rows have no identity, so outcomes cannot be joined."""
    series: Series | None = None
    """For a quantity: what tells one series from another, and which fields are known in advance."""
    groups: tuple[Group, ...] = ()
    thresholds: Thresholds = Thresholds()
    forecast_thresholds: ForecastThresholds = ForecastThresholds()
    """For a quantity, in place of ``thresholds``."""
    horizon_days: int = 365
    """A record older than this says nothing about an outcome."""
    purpose: str
    """What the model is for, for the model card."""
    misuse: str
    """What it must not be used for, for the model card."""
    top_share: float = 0.2
    """Share of the hold-out's records, those with the highest probabilities, that answers call the top: the risk band
    is an aid to talk, and not a decision."""
    entities: str = "records"
    """What people call the rows, for example ``employees``."""
    model: str = ""
    """Registered model's plain name; the use case's name where it is empty."""
    data: str = ""
    """File of training data within the folder, if the definition brings one."""
    plan: str = ""
    """File of the plan within the folder, if the definition brings one: what is known of weeks to come."""
    trials: int = 30
    """Tuning trials where neither the run nor the settings say otherwise."""
    score_schedule: str | None = None
    """When the batch scoring starts by itself, as a cron expression in UTC. ``None``: it is started by hand."""
    online: bool = True
    """Whether a scoring server answers requests."""

    def __post_init__(self) -> None:
        faults = _type_faults(self)  # what is of another type could not even be looked at
        if faults := faults or [*_name_faults(self), *_field_faults(self), *_group_faults(self), *_kind_faults(self)]:
            raise UseCaseError(f"use case {self.name!r} contradicts itself: {'; '.join(faults)}")

    @property
    def features(self) -> tuple[Field, ...]:
        """The fields that the models see, in the column order of the encoded matrix."""
        return tuple(field for field in self.fields if field.role == "feature")

    @property
    def kind(self) -> Kind:
        """What the rails do for labels of this kind."""
        return KINDS[str(self.label.__struct_config__.tag)]

    @property
    def binary(self) -> Binary:
        """The label of two values; raises ``UseCaseError`` where it is a quantity."""
        if not isinstance(self.label, Binary):
            raise UseCaseError(f"use case {self.name!r} forecasts a quantity: its label has no two values")
        return self.label

    @property
    def forecast(self) -> Series:
        """The series that are forecast; raises ``UseCaseError`` where the label has two values."""
        if self.series is None:
            raise UseCaseError(f"use case {self.name!r} estimates a probability: it has no series")
        return self.series

    @property
    def columns(self) -> dict[str, str]:
        """Column of each field, of the series' time, and of the label, in SQL tables: the name itself where SQL takes
        it as it is."""
        time = (self.series.time,) if self.series else ()
        return {name: column_name(name) for name in (*(field.name for field in self.fields), *time, self.label.field)}

    # --- every name that follows from the use case ---

    @property
    def slug(self) -> str:
        """The name where ``_`` is not allowed: images, namespaces."""
        return self.name.replace("_", "-")

    @property
    def model_name(self) -> str:
        return self.model or self.name

    @property
    def experiment(self) -> str:
        """MLflow experiment of the training runs."""
        return f"/Shared/{self.name}"

    @property
    def image(self) -> str:
        """Image repository within the registry."""
        return f"{self.slug}-scoring"

    def namespace(self, target: Target) -> str:
        """Kubernetes namespace of a target."""
        return f"{self.slug}-{target}"

    @property
    def train_dag(self) -> str:
        return f"{self.name}_train"

    @property
    def release_dag(self) -> str:
        return f"{self.name}_release"

    @property
    def rollback_dag(self) -> str:
        return f"{self.name}_rollback"

    @property
    def stop_dag(self) -> str:
        return f"{self.name}_stop"

    @property
    def resume_dag(self) -> str:
        return f"{self.name}_resume"

    @property
    def retrain_dag(self) -> str:
        return f"{self.name}_{self.kind.retrain}"

    @property
    def score_dag(self) -> str:
        return f"{self.name}_score"

    @property
    def version_asset(self) -> str:
        return f"{self.name}_model_version"

    @property
    def production_asset(self) -> str:
        return f"{self.name}_production"

    @property
    def scores_asset(self) -> str:
        return f"{self.name}_scores"

    @property
    def arrivals_dag(self) -> str:
        return f"{self.name}_arrivals"

    @property
    def data_asset(self) -> str:
        return f"{self.name}_new_data"

    @property
    def outcomes_asset(self) -> str:
        return f"{self.name}_new_outcomes"

    # --- what stands beside the definition ---

    @property
    def folder(self) -> Path:
        """The definition's folder."""
        found = importlib.util.find_spec(f"use_cases.{self.name}")
        if found is None or found.origin is None:
            raise UseCaseError(
                f"use case {self.name!r} has no folder in use_cases/ or in a folder that USE_CASES names"
            )
        return Path(found.origin).parent

    def part(self, name: Literal["search", "features", "sample"]) -> ModuleType | None:
        """A module beside the definition, or ``None`` where the use case has none of its own."""
        package = f"use_cases.{self.name}"
        if importlib.util.find_spec(package) is None:  # a value that was made without a folder
            return None
        module = f"{package}.{name}"
        return importlib.import_module(module) if importlib.util.find_spec(module) else None


@functools.lru_cache(4096)  # asked for every field of every record
def column_name(name: str) -> str:
    """The SQL column for a field: letters, digits and ``_``, no word of SQL and no column of the tables themselves."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    column = re.sub(r"[^A-Za-z0-9_]+", "_", plain).strip("_") if not name.isidentifier() or plain != name else name
    if not column or column[0].isdigit():
        column = f"c_{column}".rstrip("_")
    taken = column.lower() in _SQL_WORDS or column.lower() in _TABLE_COLUMNS or keyword.iskeyword(column.lower())
    return f"{column}_" if taken else column


@functools.cache
def _members() -> tuple[tuple[str, object], ...]:
    """Name and type of each member of a use case."""
    return tuple((member.name, member.type) for member in msgspec.structs.fields(UseCase))


def _type_faults(use_case: UseCase) -> list[str]:
    """Python does not look at the types of a definition: a kind that there is not would fail after the training."""
    faults = []
    for name, type_ in _members():
        try:
            msgspec.convert(msgspec.to_builtins(getattr(use_case, name)), type_)
        except (msgspec.ValidationError, TypeError) as error:
            faults.append(f"{name}: {error}")
    return faults


def _name_faults(use_case: UseCase) -> list[str]:
    faults = []
    if not _NAME.fullmatch(use_case.name):
        faults.append("its name may hold lower-case letters, digits and _, at most 30, and begins with a letter")
    if keyword.iskeyword(use_case.name):
        faults.append("its name is a word of Python: choose another")
    for what in ("title", "description", "owner", "purpose", "misuse"):
        if not getattr(use_case, what).strip():
            faults.append(f"{what} is empty: write a sentence")
    if NOT_IN_NAMES.search(use_case.title):
        faults.append("title holds a quotation mark, a backslash or a line break: log lines are found by it as it is")
    if use_case.horizon_days < 1 or use_case.trials < 1:
        faults.append("horizon_days and trials are at least 1")
    if (schedule := use_case.score_schedule) is not None and not _SCHEDULE.fullmatch(schedule):
        faults.append(f"score_schedule is {schedule!r}: give the five parts of cron, such as '0 6 * * 1'")
    if not 0 < use_case.top_share < 1:
        faults.append(f"top_share is {use_case.top_share:g}: give a share above 0 and below 1")
    return faults


def _field_faults(use_case: UseCase) -> list[str]:
    faults = []
    label, key = use_case.label, use_case.key
    names = [field.name for field in use_case.fields]
    if label.field in names:
        faults.append(f"the label {label.field} is among the fields: a request cannot know it")
    if isinstance(label, Binary) and label.positive == label.negative:
        faults.append(f"both values of the label are {label.positive!r}")
    if use_case.series:
        names.append(use_case.series.time)
    columns: dict[str, str] = {}
    for name in (*names, label.field):
        if NOT_IN_NAMES.search(name):
            faults.append(f"the name {name!r} holds a quotation mark, a backslash or a line break: rename it")
        column = column_name(name).lower()
        if column in columns:
            faults.append(f"{columns[column]!r} and {name!r} become the same column {column!r}: rename one of them")
        columns[column] = name
    if key is not None and key not in names:
        faults.append(f"the key {key} is not a field")
    faults += [
        f"the key {key} is a feature: give it role='carried'" for field in use_case.features if field.name == key
    ]
    if not use_case.features and not use_case.series:
        faults.append("no field has role='feature': the model would see nothing")
    for field in use_case.fields:
        faults += _value_faults(field)
    return faults


def _value_faults(field: Field) -> list[str]:
    """What is wrong with the values that a field may have, and with its example."""
    example = field.example
    if field.kind == "category":
        if not field.categories and field.role == "feature":
            return [f"{field.name} lists no categories"]
        if len(set(field.categories)) < len(field.categories):
            return [f"{field.name} lists a category twice"]
        fits = isinstance(example, str) and example in (field.categories or (example,))
    else:
        low, high = field.minimum, field.maximum
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high) and low <= high):
            return [f"{field.name} needs a minimum and a maximum, in this order"]
        fits = not isinstance(example, str) and low <= example <= high
        fits = fits and (field.kind == "number" or float(example).is_integer())
    return [] if fits else [f"the example {example!r} of {field.name} is not a value of the field: give one"]


def _group_faults(use_case: UseCase) -> list[str]:
    faults = []
    fields = {field.name: field for field in use_case.fields}
    for group in use_case.groups:
        field = fields.get(group.field)
        if field is None:
            faults.append(f"the group {group.field} is not a field")
            continue
        if list(group.bands) != sorted(set(group.bands)):
            faults.append(f"the bands of group {group.field} do not ascend: {', '.join(f'{b:g}' for b in group.bands)}")
        if group.bands and field.kind == "category":
            faults.append(f"{group.field} is a category: it has no bands")
        if not group.bands and field.kind != "category":
            faults.append(f"{group.field} is a number: give its group bands")
        if field.role == "feature" and not group.fed_because:
            faults.append(
                f"{group.field} is compared and fed to the model: give its group fed_because, or role='compared'"
            )
    grouped = {group.field for group in use_case.groups}
    faults += [
        f"{field.name} has role='compared' and no group"
        for field in use_case.fields
        if field.role == "compared" and field.name not in grouped
    ]
    return faults


def _kind_faults(use_case: UseCase) -> list[str]:
    """What does not go with the kind of the label."""
    label, series = use_case.label, use_case.series
    if isinstance(label, Binary):
        return ["series goes with a label that is a Quantity: remove it, or change the label"] if series else []
    faults = []
    if use_case.online:
        faults.append("the label is a Quantity and online=True: forecasts have no scoring server, set online=False")
    if use_case.groups:
        faults.append("the label is a Quantity and has groups: forecasts are compared over series, remove them")
    if use_case.key is not None:
        faults.append(f"the label is a Quantity and key is {use_case.key}: the series say what tells rows apart")
    if series is None:
        return [*faults, "the label is a Quantity and series is missing: say what tells one series from another"]
    if series.label != label:
        faults.append(f"the label is {label.field}, and that of the series {series.label.field}: make them the same")
    return faults + _series_faults(use_case, series)


_OF_FORECASTS = (
    "horizon", "forecast", "q10", "q50", "q90", "model", "plan_assumed", "short_history", "origin", "actual", "scale",
    "level", "signal", "model_version", "bundle_digest", "day",
)  # fmt: skip
"""Columns that forecasts and their errors have beside those of the series."""


def _series_faults(use_case: UseCase, series: Series) -> list[str]:
    fields = {field.name: field for field in use_case.fields}
    wanted = [name for name in series.columns if name not in (series.time, series.label.field)]
    faults = [f"the series name {name}, which is not a field" for name in wanted if name not in fields]
    faults += [f"{name} is a field and not in the series" for name in fields if name not in wanted]
    faults += [
        f"{name} is a column of every forecast: rename the field" for name in series.columns if name in _OF_FORECASTS
    ]
    if series.time in fields:
        faults.append(f"the time {series.time} is among the fields: it is a date, and no field is one")
    for name in wanted:
        kind = fields[name].kind if name in fields else ""
        if kind == "category" and name not in series.key:
            faults.append(f"{name} is a category: outside the key, series take numbers alone")
        if kind == "number" and name in series.key:
            faults.append(f"{name} is a number and in the key: make it an integer or a category")
    return faults


# --- finding definitions ---


def names() -> list[str]:
    """All folders that define a use case, in order."""
    package = importlib.import_module("use_cases")
    return sorted({module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg})


@functools.cache
def load(name: str) -> UseCase:
    """The use case of this name; raises ``UseCaseError`` where there is none, or its definition does not hold."""
    if name not in (known := names()):
        raise UseCaseError(f"there is no use case {name!r}: use one of {', '.join(known) or '(none)'}")
    try:
        module = importlib.import_module(f"use_cases.{name}")
    except UseCaseError:
        raise
    except Exception as error:  # a definition is somebody's code, and may raise anything
        raise UseCaseError(f"use_cases/{name} does not import: {type(error).__name__}: {error}") from error
    use_case = getattr(module, "USE_CASE", None)
    if not isinstance(use_case, UseCase):
        raise UseCaseError(f"use_cases/{name}/__init__.py defines no USE_CASE: assign it a UseCase")
    if use_case.name != name:
        raise UseCaseError(f"use_cases/{name} defines a use case named {use_case.name!r}: give both the same name")
    return use_case


def load_all() -> tuple[tuple[UseCase, ...], tuple[UseCaseError, ...]]:
    """Every use case whose definition holds, and what is wrong with each of the others.

    Of two with one title or one model, the one whose name sorts first counts.
    """
    loaded: list[UseCase] = []
    faults = _hidden()
    for name in names():
        try:
            use_case = load(name)
        except UseCaseError as error:
            faults.append(error)
            continue
        if said := [text for other in loaded for text in _shared(use_case, other)]:
            faults.append(UseCaseError("; ".join(said)))
        else:
            loaded.append(use_case)
    return tuple(loaded), tuple(faults)


def _hidden() -> list[UseCaseError]:
    """Folders of one name at several places: Python imports the first, and nobody would miss another one.

    A copy is not another one: Compose mounts the folder that its image has too.
    """
    package = importlib.import_module("use_cases")
    faults: list[UseCaseError] = []
    first: dict[str, Path] = {}
    for place in dict.fromkeys(map(os.path.realpath, package.__path__)):
        for module in pkgutil.iter_modules([place]):
            folder = Path(place, module.name)
            known = first.setdefault(module.name, folder)
            if module.ispkg and known != folder and _code(known) != _code(folder):
                faults.append(
                    UseCaseError(
                        f"{folder} has the name of {known}, which counts, and says something else: rename the folder "
                        f"and the use case in it, or bring both to one state. Until then nobody reads it"
                    )
                )
    return faults


def _code(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py")}


UNTIL_THEN = "Until then it has no DAGs"


def _shared(use_case: UseCase, other: UseCase) -> list[str]:
    """What two definitions may not have in common, and do: the names that log lines and versions are found by."""
    texts = []
    if use_case.title == other.title:
        texts.append(
            f"{use_case.folder} has the title of {other.folder}, {other.title!r}, by which log lines are found: give "
            f"it another title. {UNTIL_THEN}"
        )
    if use_case.model_name.casefold() == other.model_name.casefold():
        texts.append(
            f"{use_case.folder} has the model of {other.folder}, {other.model_name!r}: give it another one in model. "
            f"{UNTIL_THEN}"
        )
    return texts
