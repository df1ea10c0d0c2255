"""Machine repairs with features of its own: name the folder above in ``USE_CASES``."""

import msgspec

from tests.support.repairs import REPAIRS

USE_CASE = msgspec.structs.replace(
    REPAIRS, name="repairs_by_features", title="Repairs by features", model="repairs_by_features"
)
