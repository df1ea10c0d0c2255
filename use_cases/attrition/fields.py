"""The fields of an employee record: the one list behind the data contract and the request contract.

Four fields are part of every request but no features. ``EmployeeCount`` (always 1), ``StandardHours``
(always 80) and ``Over18`` (always Y) are constant, so a model can learn nothing from them and would only
meet values it has never seen. ``EmployeeNumber`` identifies a person: a model that sees it can learn
people by heart. Drift is not tested for them either. ``Gender``, ``MaritalStatus`` and ``Age`` are not features
either: people are compared by them, and no model sees them.

Ranges are what is plausible for a person, not what one data set happens to hold.
"""

import msgspec

from serving.scoring.contract import Field


def _category(name: str, description: str, example: str, *categories: str, sensitive: bool = False) -> Field:
    return Field(
        name=name,
        kind="category",
        description=description,
        example=example,
        categories=categories,
        sensitive=sensitive,
    )


def _integer(
    name: str,
    description: str,
    example: int,
    minimum: int,
    maximum: int,
    unit: str | None = None,
    sensitive: bool = False,
) -> Field:
    return Field(
        name=name,
        kind="integer",
        description=description,
        example=example,
        minimum=minimum,
        maximum=maximum,
        unit=unit,
        sensitive=sensitive,
    )


def _level(name: str, description: str, example: int, lowest: int = 1, highest: int = 4) -> Field:
    return _integer(name, f"{description}, {lowest} (lowest) to {highest}", example, lowest, highest)


def _compared(field: Field) -> Field:
    """The same field, as one that no model sees and that groups of people are compared by. It may be left out."""
    return msgspec.structs.replace(field, role="compared", required=False)


def _constant(field: Field) -> Field:
    """The same field, as one that a request may leave out and that no model sees."""
    return msgspec.structs.replace(field, role="carried", drift=False, required=False)


FIELDS: tuple[Field, ...] = (
    _category(
        "BusinessTravel",
        "How often the job means travelling",
        "Travel_Rarely",
        *("Non-Travel", "Travel_Rarely", "Travel_Frequently"),
    ),
    _category(
        "Department",
        "Department",
        "Research & Development",
        *("Human Resources", "Research & Development", "Sales"),
    ),
    _category(
        "EducationField",
        "Subject of the highest degree",
        "Medical",
        *("Human Resources", "Life Sciences", "Marketing", "Medical", "Technical Degree", "Other"),
    ),
    _compared(_category("Gender", "Gender", "Male", "Female", "Male", sensitive=True)),
    _category(
        "JobRole",
        "Job",
        "Manager",
        *("Healthcare Representative", "Human Resources", "Laboratory Technician", "Manager"),
        *("Manufacturing Director", "Research Director", "Research Scientist", "Sales Executive"),
        "Sales Representative",
    ),
    _compared(_category("MaritalStatus", "Marital status", "Married", "Divorced", "Married", "Single", sensitive=True)),
    _constant(_category("Over18", "Of age; constant, not used by the model", "Yes", "Y", "N", "Yes", "No")),
    _category("OverTime", "Works overtime", "No", "No", "Yes"),
    _compared(_integer("Age", "Age", 36, 16, 100, "years", sensitive=True)),
    _integer("DailyRate", "Daily rate", 989, 0, 100_000, "currency units per day"),
    _integer("DistanceFromHome", "Way to work", 8, 0, 1_000, "km"),
    _level("Education", "Highest degree", 1, highest=5),
    _constant(_integer("EmployeeCount", "Constant, not used by the model", 1, 0, 1_000_000)),
    _constant(
        _integer(
            "EmployeeNumber",
            "Identifies the employee; not used by the model",
            *(253, 0, 2**53 - 1),
            sensitive=True,
        )
    ),
    _level("EnvironmentSatisfaction", "Satisfaction with the work environment", 4),
    _integer("HourlyRate", "Hourly rate", 46, 0, 10_000, "currency units per hour"),
    _level("JobInvolvement", "Involvement in the job", 3),
    _level("JobLevel", "Level of the job", 5, highest=5),
    _level("JobSatisfaction", "Satisfaction with the job", 3),
    _integer("MonthlyIncome", "Monthly income", 19_033, 0, 1_000_000, "currency units per month"),
    _integer("MonthlyRate", "Monthly rate", 6_499, 0, 1_000_000, "currency units per month"),
    _integer("NumCompaniesWorked", "Employers before this one", 1, 0, 100),
    _integer("PercentSalaryHike", "Last rise of the salary", 14, 0, 100, "percent"),
    _level("PerformanceRating", "Last performance rating", 3),
    _level("RelationshipSatisfaction", "Satisfaction with working relationships", 2),
    _constant(_integer("StandardHours", "Constant, not used by the model", 65, 0, 744, "hours")),
    _level("StockOptionLevel", "Level of stock options", 1, lowest=0, highest=3),
    _integer("TotalWorkingYears", "Working life so far", 14, 0, 80, "years"),
    _integer("TrainingTimesLastYear", "Trainings in the last year", 3, 0, 50),
    _level("WorkLifeBalance", "Balance of work and life", 2),
    _integer("YearsAtCompany", "Time with this employer", 3, 0, 80, "years"),
    _integer("YearsInCurrentRole", "Time in the current role", 3, 0, 80, "years"),
    _integer("YearsSinceLastPromotion", "Time since the last promotion", 3, 0, 80, "years"),
    _integer("YearsWithCurrManager", "Time with the current manager", 1, 0, 80, "years"),
)
"""In request order, which is the published scenario's."""
