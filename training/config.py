"""What a training job is told: ``--config`` of ``training/training_job.py``."""

import msgspec


class ConfigError(ValueError):
    """Raised when ``--config`` is not what the job expects."""


class JobConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training job. The same configuration and data give the same model."""

    use_case: str
    """Its name: a folder of ``use_cases/``, which also says what a challenger must reach."""
    data: str
    """CSV, Parquet or Delta, as path or URI that the job can read."""
    plan: str = ""
    """For a quantity: what was and is planned, as path or URI. Empty: what the history has of planned fields."""
    model_name: str
    """Registered model: ``name``, or ``catalog.schema.name`` with Unity Catalog."""
    experiment: str
    trials: int
    seed: int
    force: bool = False
    """Register a challenger that is not accepted, and say so in a tag."""
    parallel_trials: int = 2
    """Local processes that fit side by side; on Spark, Spark decides."""
    signing_key: str = ""
    """Where the private key is that signs the bundle (``training.signing.keys.open_key``); empty: it is not signed."""
    signing_credential: str = ""
    """Service credential of Unity Catalog by which a Key Vault knows the job."""
    code_hash: str = "unknown"
    git_revision: str = "unknown"


def read_config(text: str) -> JobConfig:
    """Parse and check; raises ``ConfigError`` that names the field."""
    try:
        config = msgspec.json.decode(text, type=JobConfig)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"--config is wrong: {error}") from error
    if config.trials < 1 or config.parallel_trials < 1:
        raise ConfigError("--config is wrong: trials and parallel_trials are at least 1")
    if config.model_name.count(".") not in (0, 2) or not all(config.model_name.split(".")):
        raise ConfigError(
            f"--config is wrong: model_name is {config.model_name!r}; "
            "give a plain name, or catalog.schema.name for Unity Catalog"
        )
    return config
