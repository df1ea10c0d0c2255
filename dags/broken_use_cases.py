"""Makes no DAG. Airflow lists what is wrong with definitions in ``use_cases/`` as an import error of this file.

The other DAG files leave such use cases out, so that all the others keep their DAGs.
"""

from lifecycle.use_cases import load_all
from training.use_case import UseCaseError

if faults := load_all()[1]:
    raise UseCaseError("; ".join(str(fault) for fault in faults))
