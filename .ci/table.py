"""Write a table that no use case of this repository is about, and print its path: ``python .ci/table.py FOLDER``.

The Wisconsin breast cancer data, which scikit-learn brings: thirty measurements, whose names have spaces.
"""

import sys
from pathlib import Path

from sklearn.datasets import load_breast_cancer

path = Path(sys.argv[1]) / "tumours.csv"
found = load_breast_cancer(as_frame=True)
table = found.data.assign(finding=found.target_names[found.target])
table.insert(0, "patient", [f"P{number:04}" for number in range(len(table))])
table.to_csv(path, index=False)
print(path)
