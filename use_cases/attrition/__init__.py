"""Employee attrition: who is likely to leave, so that an employer can talk to people in time."""

from training.use_case import Binary, Group, Thresholds, UseCase
from use_cases.attrition.fields import FIELDS

USE_CASE = UseCase(
    name="attrition",
    title="Employee Attrition API",
    description=(
        "Probability that an employee leaves, with outlier and drift indicators. "
        "A figure to start a conversation with, not to decide about a person."
    ),
    owner="mlops",
    fields=FIELDS,
    label=Binary("Attrition", positive="Yes", negative="No", positives="leavers", negatives="stayers"),
    key="EmployeeNumber",
    groups=(Group("Gender"), Group("MaritalStatus"), Group("Age", bands=(30, 40, 50))),
    thresholds=Thresholds(minimum_roc_auc=0.70),
    horizon_days=365,
    purpose="It estimates the probability that an employee leaves, so that an employer can talk to people in time.",
    misuse=(
        "It is not made to decide about hiring, pay or dismissal, and its risk says nothing about why a single person "
        "would leave. Data of other employers, countries or years may follow other rules: watch drift."
    ),
    entities="employees",
    model="employee_attrition",
    data="data/emp_attrition.csv",
)
