"""The generator: seeded, complete, plausible."""

import subprocess
import sys

import pandas as pd

from training.data.dataset import read_table
from training.use_case import load
from use_cases.attrition.sample import make_sample


def test_same_seed_gives_the_same_employees():
    pd.testing.assert_frame_equal(make_sample(300, 5), make_sample(300, 5))
    assert not make_sample(300, 5).equals(make_sample(300, 6))


def test_generated_employees_have_the_real_columns_and_pass_the_data_contract(tmp_path):
    path = tmp_path / "employees.csv"
    command = [
        sys.executable,
        "-m",
        "training.data.synthetic",
        "attrition",
        "--rows",
        "1470",
        "--seed",
        "7",
        "--out",
        str(path),
    ]
    subprocess.run(command, check=True)
    employees = read_table(load("attrition"), str(path))
    assert len(employees.frame) == 1470
    assert set(pd.read_csv(path).columns) == set(load("attrition").columns)
    assert 0.12 < employees.y.mean() < 0.20


def test_generated_relations_are_plausible():
    frame = make_sample(4000, 1)
    leaves = frame["Attrition"] == "Yes"
    assert leaves[frame["OverTime"] == "Yes"].mean() > 1.5 * leaves[frame["OverTime"] == "No"].mean()
    assert frame["MonthlyIncome"].corr(frame["JobLevel"].astype(float)) > 0.8
    assert (frame["YearsAtCompany"] <= frame["TotalWorkingYears"]).all()
    assert (frame["TotalWorkingYears"] <= frame["Age"] - 18).all()
    for years in ("YearsInCurrentRole", "YearsSinceLastPromotion", "YearsWithCurrManager"):
        assert (frame[years] <= frame["YearsAtCompany"]).all()
