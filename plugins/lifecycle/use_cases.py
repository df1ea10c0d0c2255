"""The use cases of this Airflow: those whose definition holds, and whose names in the settings are theirs alone."""

from lifecycle import settings
from lifecycle.settings import SettingsError
from training import use_case as definitions
from training.use_case import UNTIL_THEN, UseCase


def load_all() -> tuple[tuple[UseCase, ...], tuple[ValueError, ...]]:
    """Every use case that may have its DAGs, and what is wrong with each of the others.

    Of two with one registered model, experiment, repository or namespace, the one whose name sorts first counts.
    """
    found, faults = definitions.load_all()
    loaded: list[tuple[UseCase, dict[str, str]]] = []
    clashes: list[ValueError] = []
    for use_case in found:
        names = _own(use_case)
        if said := [text for other, theirs in loaded for text in _shared(use_case, names, other, theirs)]:
            clashes.append(SettingsError("; ".join(said)))
        else:
            loaded.append((use_case, names))
    return tuple(use_case for use_case, _ in loaded), (*faults, *clashes)


def _own(use_case: UseCase) -> dict[str, str]:
    """What no other use case may have, by the setting that says it."""
    counts = settings.load().of(use_case)
    names = {"model_name": counts.model_name, "experiment": counts.experiment}
    if use_case.online:
        names["repository"] = counts.repository
        names["staging.namespace"] = counts.staging.namespace
        names["production.namespace"] = counts.production.namespace
    return names


def _shared(use_case: UseCase, names: dict[str, str], other: UseCase, theirs: dict[str, str]) -> list[str]:
    return [
        f"{use_case.folder} has the {setting} of {other.folder} in the settings, {name!r}: change it in "
        f"[use_cases.{use_case.name}], or write {settings.NAME_MARK} into it in [every_use_case]. {UNTIL_THEN}"
        for setting, name in names.items()
        if name.casefold() == theirs.get(setting, "").casefold()
    ]
