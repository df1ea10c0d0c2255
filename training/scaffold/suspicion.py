"""Columns that a person has to look at: what the law may protect, and what may know the answer."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from serving.scoring.contract import Field
from training.scaffold.column import Column, words
from training.use_case import Group

LEAKING_AUC = 0.98
"""ROC AUC of a single column from which on it is named as possible leakage."""
_FOLDS = 5

_BY_NAME: tuple[tuple[str, frozenset[str]], ...] = (
    ("gender", frozenset(("gender", "sex", "male", "female", "geschlecht", "sexe", "sexo", "genero", "género"))),
    ("age", frozenset(("age", "ages", "birth", "birthday", "birthdate", "birthyear", "dob", "born", "elderly", "alter",
                       "geburtsdatum", "geburtsjahr", "âge", "edad"))),
    ("ethnic origin", frozenset(("race", "racial", "ethnicity", "ethnic", "ethnie", "tribe", "caste"))),
    ("religion or belief", frozenset(("religion", "religious", "faith", "belief", "confession", "konfession"))),
    ("nationality", frozenset(("nationality", "citizenship", "immigrant", "migrant", "migration", "nationalität",
                               "nationalitaet", "staatsangehörigkeit", "nationalité", "nacionalidad"))),
    ("marital status", frozenset(("marital", "married", "marriage", "civilstatus", "familienstand", "zivilstand"))),
    ("disability or health", frozenset(("disability", "disabled", "handicap", "pregnant", "pregnancy", "maternity",
                                        "behinderung", "schwerbehindert", "schwerbehinderung", "discapacidad"))),
    ("political opinion or union", frozenset(("political", "politics", "union", "unionised", "unionized",
                                              "gewerkschaft"))),
)  # fmt: skip
_BY_PHRASE = {
    "senior citizen": "age", "sexual orientation": "sexual orientation", "civil status": "marital status",
    # Without capitals or blanks between their words; hardly any other word holds one of these.
    "gender": "gender", "dateofbirth": "age", "birthdate": "age", "seniorcitizen": "age",
    "maritalstatus": "marital status", "civilstatus": "marital status", "ethnic": "ethnic origin",
    "nationality": "nationality", "citizenship": "nationality", "religion": "religion or belief",
    "sexualorientation": "sexual orientation", "disabilit": "disability or health", "pregnan": "disability or health",
}  # fmt: skip
_BY_CONTENT: tuple[tuple[str, int, frozenset[str]], ...] = (
    ("gender", 2, frozenset(("male", "female", "m", "f", "man", "woman", "men", "women", "männlich", "weiblich"))),
    ("gender", 2, frozenset(("mr", "mrs", "ms", "miss", "mr.", "mrs.", "ms."))),
    ("marital status", 2, frozenset(("single", "married", "divorced", "widowed", "separated", "unmarried"))),
    ("ethnic origin", 3, frozenset(("white", "black", "asian", "hispanic", "caucasian", "african american"))),
    ("religion or belief", 2, frozenset(("christian", "muslim", "jewish", "hindu", "buddhist", "catholic",
                                         "protestant"))),
)  # fmt: skip
_CONTENT_SHARE = 0.9
"""Share of the rows whose value is one of the telling words."""


def protected(column: Column) -> str | None:
    """The attribute that name or content suggests, such as ``gender``; ``None`` where nothing does."""
    found = words(column.name)
    for attribute, telling in _BY_NAME:
        if telling & set(found):
            return attribute
    for phrase, attribute in _BY_PHRASE.items():
        if phrase in " ".join(found):
            return attribute
    if column.numeric:
        return None
    rows = column.counts.groupby(column.counts.index.astype(str).str.strip().str.lower()).sum()
    for attribute, least, telling in _BY_CONTENT:
        known = rows[rows.index.isin(telling)]
        if len(known) >= least and known.sum() >= _CONTENT_SHARE * rows.sum():
            return attribute
    return None


def group_of(column: Column, field: Field) -> Group:
    """How the fairness report divides records by the column: by category, or by bands of about equal size."""
    if field.kind == "category":
        return Group(column.name)
    values = column.values
    if len(column.counts) == 2:
        return Group(column.name, (_plain(values.max()),))
    quartiles = values.quantile([0.25, 0.5, 0.75])
    span = float(values.max() - values.min())
    step = 10.0 ** np.floor(np.log10(span)) / 2
    rounded = {float(f"{round(quartile / step) * step:.6g}") for quartile in quartiles}
    bands = sorted(band for band in rounded if values.min() < band <= values.max())
    return Group(column.name, tuple(_plain(band) for band in bands or [float(values[values > values.min()].min())]))


def leak(column: Column, y: NDArray[np.int64], sample: NDArray[np.intp]) -> float | None:
    """The ROC AUC that the column alone reaches on sampled rows, if it is suspiciously high; ``None`` otherwise.

    ``y`` is the outcome of the sampled rows, int64 ``[n]``. What a value says is learned on other rows than it is
    asked about, so a column of many values gains nothing from knowing rows by heart. Of a column that no model can
    use, only whether a value is there is looked at.
    """
    codes = column.codes(sample) if column.learnable else np.asarray(column.values.reindex(sample).notna(), np.int64)
    scores = [_learned(codes, y)]
    if column.learnable and column.numeric:
        chosen = column.values.reindex(sample)
        scores.append(chosen.fillna(chosen.median()).to_numpy())
    aucs = [float(roc_auc_score(y, score)) for score in scores]
    reached = max(max(auc, 1 - auc) for auc in aucs)
    return reached if reached >= LEAKING_AUC else None


def _learned(codes: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of positives among the other folds' rows of the same code, float64 ``[n]``."""
    fold = np.empty(len(y), np.int64)
    for outcome in (0, 1):
        rows = np.flatnonzero(y == outcome)
        fold[rows] = np.random.default_rng(0).permutation(len(rows)) % _FOLDS
    table = pd.DataFrame({"code": codes, "fold": fold, "y": y})
    whole = table.groupby("code")["y"]
    own = table.groupby(["code", "fold"])["y"]
    positives = (whole.transform("sum") - own.transform("sum")).to_numpy(np.float64)
    others = (whole.transform("size") - own.transform("size")).to_numpy(np.float64)
    prior = float(y.mean())
    result: NDArray[np.float64] = (positives + prior) / (others + 1)
    return result


def _plain(value: float) -> float:
    return int(value) if float(value).is_integer() else float(value)
