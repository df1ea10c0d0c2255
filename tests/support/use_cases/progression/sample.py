"""Patients of a diabetes study (Efron et al., 2004), as scikit-learn ships them; keys, visits and gaps are made up."""

from importlib import resources

import numpy as np
import pandas as pd

_COLUMNS = (
    "Age (years)", "sex", "BMI (kg/m²)", "blood-pressure", "1st_serum", "LDL, mg/dl", "order", "select", "ltg",
    "naïve glucose",
)  # fmt: skip
_FAST = 140
"""Disease progression after a year, from which on it is called fast."""
_FIRST_VISIT = "2024-01-01"


def make_sample(rows: int, seed: int) -> pd.DataFrame:
    """``rows`` patients, drawn from the study's 442; each of them once where so many are asked for."""
    rng = np.random.default_rng(seed)
    source = resources.files("sklearn.datasets.data")
    measured = pd.read_csv(source / "diabetes_data_raw.csv.gz", sep=" ", header=None, names=list(_COLUMNS))
    progression = pd.read_csv(source / "diabetes_target.csv.gz", header=None)[0]
    chosen = rng.permutation(len(measured)) if rows == len(measured) else rng.integers(0, len(measured), rows)
    frame = measured.iloc[chosen].reset_index(drop=True)
    body = frame["BMI (kg/m²)"]
    visits = pd.Timestamp(_FIRST_VISIT) + pd.to_timedelta(rng.integers(0, 300, rows), unit="D")
    # The study does not say which of its two codes is which.
    return frame.assign(
        **{
            "sex": frame["sex"].map({1: "first", 2: "second"}),
            "Weight class": np.select([body < 25, body < 30], ["normal", "raised"], "high"),
            "BMI (kg/m²)": body.where(rng.random(rows) >= 0.05),
            "blood-pressure": frame["blood-pressure"].where(rng.random(rows) >= 0.03),
            "study": "Efron 2004",
            "visited": visits.strftime("%Y-%m-%d"),
            "Patient": [f"P-{number:05d}" for number in rng.permutation(10 * rows)[:rows]],
            "progression": np.where(progression.iloc[chosen] >= _FAST, "fast", "slow"),
        }
    )
