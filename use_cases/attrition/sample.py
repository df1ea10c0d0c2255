"""Synthetic employees: data to try everything with, when there is no data file.

The people are made up. Columns and value ranges are those of the real data set, relations are plausible
(income follows level and years, overtime, low pay, a long way, little satisfaction and few stock options
make leaving more likely), and every table follows from its seed alone. It says nothing about real people,
and a model that was trained on it is for demonstration.

``python -m training.data.synthetic attrition --rows 1470 --seed 7 --out employees.csv``
"""

import numpy as np
import pandas as pd

_ROLES = {
    "Human Resources": (["Human Resources", "Manager"], [0.85, 0.15]),
    "Research & Development": (
        [
            *("Healthcare Representative", "Laboratory Technician", "Manager"),
            *("Manufacturing Director", "Research Director", "Research Scientist"),
        ],
        [0.14, 0.27, 0.05, 0.15, 0.08, 0.31],
    ),
    "Sales": (["Sales Executive", "Sales Representative", "Manager"], [0.73, 0.19, 0.08]),
}
_LEVEL_FLOOR = {"Manager": 3, "Research Director": 3, "Sales Executive": 2, "Manufacturing Director": 2,
                "Healthcare Representative": 2}  # fmt: skip
_LEVEL_CEILING = {"Sales Representative": 2, "Laboratory Technician": 3, "Research Scientist": 3,
                  "Human Resources": 3, "Sales Executive": 4, "Manufacturing Director": 4,
                  "Healthcare Representative": 4}  # fmt: skip
_SATISFACTION = [0.19, 0.20, 0.30, 0.31]
_LEAVING_SHARE = 0.16


def make_sample(rows: int, seed: int) -> pd.DataFrame:
    """``rows`` synthetic employees with the 35 columns of the real file; the same seed gives the same table."""
    rng = np.random.default_rng(seed)
    frame = _careers(rng, rows)
    frame["BusinessTravel"] = rng.choice(
        ["Non-Travel", "Travel_Rarely", "Travel_Frequently"], rows, p=[0.10, 0.71, 0.19]
    )
    frame["MaritalStatus"] = rng.choice(["Divorced", "Married", "Single"], rows, p=[0.22, 0.46, 0.32])
    frame["Gender"] = rng.choice(["Female", "Male"], rows, p=[0.4, 0.6])
    frame["OverTime"] = rng.choice(["No", "Yes"], rows, p=[0.72, 0.28])
    frame["DistanceFromHome"] = np.minimum(1 + rng.exponential(8.5, rows).astype(int), 29)
    stock = rng.choice(4, rows, p=[0.25, 0.50, 0.15, 0.10])
    frame["StockOptionLevel"] = np.where(frame["MaritalStatus"] == "Single", 0, stock)
    for name in ("EnvironmentSatisfaction", "JobSatisfaction", "RelationshipSatisfaction"):
        frame[name] = 1 + rng.choice(4, rows, p=_SATISFACTION)
    frame["JobInvolvement"] = 1 + rng.choice(4, rows, p=[0.06, 0.25, 0.59, 0.10])
    frame["WorkLifeBalance"] = 1 + rng.choice(4, rows, p=[0.05, 0.24, 0.61, 0.10])
    frame["TrainingTimesLastYear"] = rng.choice(7, rows, p=[0.04, 0.05, 0.37, 0.33, 0.08, 0.08, 0.05])
    frame["PercentSalaryHike"] = np.minimum(11 + rng.exponential(4.2, rows).astype(int), 25)
    frame["PerformanceRating"] = np.where(frame["PercentSalaryHike"] >= 20, 4, 3)
    frame["DailyRate"] = rng.integers(102, 1500, rows)
    frame["HourlyRate"] = rng.integers(30, 101, rows)
    frame["MonthlyRate"] = rng.integers(2094, 27000, rows)
    frame["EmployeeCount"], frame["StandardHours"], frame["Over18"] = 1, 80, "Y"
    frame["EmployeeNumber"] = 1 + np.sort(rng.choice(rows + rows // 2 + 1, rows, replace=False))
    risk = _risk(frame) + rng.normal(0, 0.35, rows)
    # The level that makes the wanted share leave on average, found by bisection.
    low, high = -20.0, 20.0
    for _ in range(60):
        level = (low + high) / 2
        too_many = _sigmoid(risk + level).mean() > _LEAVING_SHARE
        low, high = (low, level) if too_many else (level, high)
    leaves = rng.random(rows) < _sigmoid(risk + low)
    frame["Attrition"] = np.where(leaves, "Yes", "No")
    return frame[sorted(frame.columns)]


def _careers(rng: np.random.Generator, rows: int) -> pd.DataFrame:
    """Age, education, years, department, job, level and income, each following from those before."""
    age = np.clip(rng.normal(37, 9, rows).round().astype(int), 18, 60)
    education = 1 + rng.choice(5, rows, p=[0.12, 0.19, 0.39, 0.27, 0.03])
    worked = np.clip((age - 18 - education) * rng.beta(5, 2, rows), 0, 40).round().astype(int)
    department = rng.choice(list(_ROLES), rows, p=[0.04, 0.66, 0.30])
    role = np.array([rng.choice(_ROLES[name][0], p=_ROLES[name][1]) for name in department])
    wanted = np.clip(1 + worked / 8 + rng.normal(0, 0.7, rows), 1, 5).round().astype(int)
    level = np.clip(
        wanted,
        [_LEVEL_FLOOR.get(name, 1) for name in role],
        [_LEVEL_CEILING.get(name, 5) for name in role],
    )
    income = 400 + 2300 * level**1.25 * np.exp(rng.normal(0, 0.18, rows)) + 40 * worked
    at_company = (worked * rng.beta(1.6, 1.2, rows)).round().astype(int)
    frame = pd.DataFrame({"Age": age, "Education": education, "TotalWorkingYears": worked})
    frame["Department"], frame["JobRole"], frame["JobLevel"] = department, role, level
    frame["EducationField"] = _education_fields(rng, department)
    frame["MonthlyIncome"] = np.clip(income.round().astype(int), 1009, 19999)
    frame["YearsAtCompany"] = at_company
    for name, alpha in (("YearsInCurrentRole", 2.0), ("YearsWithCurrManager", 2.0), ("YearsSinceLastPromotion", 0.7)):
        frame[name] = (at_company * rng.beta(alpha, 1.5, rows)).round().astype(int)
    changes = rng.poisson(0.5 + 0.12 * (worked - at_company))
    frame["NumCompaniesWorked"] = np.clip(np.where(worked > at_company, 1 + changes, 0), 0, 9)
    return frame


def _education_fields(rng: np.random.Generator, department: np.ndarray) -> np.ndarray:
    general = rng.choice(
        ["Life Sciences", "Medical", "Technical Degree", "Other"], len(department), p=[0.47, 0.36, 0.10, 0.07]
    )
    own = {"Sales": "Marketing", "Human Resources": "Human Resources"}
    specialist = np.array([own.get(name, "Life Sciences") for name in department])
    return np.where(rng.random(len(department)) < 0.38, specialist, general)


def _risk(frame: pd.DataFrame) -> np.ndarray:
    """Log-odds of leaving, up to a constant, float64 ``[n]``."""
    overtime = (frame["OverTime"] == "Yes").to_numpy(float)
    low_pay = np.clip((4000 - frame["MonthlyIncome"]) / 1500, 0, 1.5)
    risk = 1.5 * overtime + 0.9 * low_pay + 0.8 * overtime * low_pay
    risk += 0.9 * (frame["BusinessTravel"] == "Travel_Frequently") - 0.7 * (frame["BusinessTravel"] == "Non-Travel")
    risk += 0.8 * (frame["MaritalStatus"] == "Single") + 0.05 * (frame["DistanceFromHome"] - 9)
    risk += 1.0 * (frame["EnvironmentSatisfaction"] == 1) + 0.9 * (frame["JobSatisfaction"] == 1)
    risk -= 0.35 * (frame["JobSatisfaction"] - 2.7) + 0.55 * (frame["JobInvolvement"] - 2.7)
    risk += 0.9 * (frame["WorkLifeBalance"] == 1) + 0.8 * (frame["StockOptionLevel"] == 0)
    risk -= 0.05 * (frame["Age"] - 37) + 0.10 * np.minimum(frame["YearsWithCurrManager"], 6)
    risk += 0.16 * frame["NumCompaniesWorked"] + 0.13 * frame["YearsSinceLastPromotion"]
    risk += 0.8 * frame["JobRole"].isin(["Sales Representative", "Laboratory Technician"])
    result: np.ndarray = risk.to_numpy(float)
    return result


def _sigmoid(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-values))
    return result
