"""What the steps took and made, as OpenLineage tells it: data set, training run, model version, image, deployment.

The operators answer the OpenLineage provider with these after they have succeeded; where no transport is
configured, nobody asks. A data set keeps its name from release to release, and its version facet says which
one it was: the digest of data and image, the id of a run, the number of a model version.
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lifecycle import settings
from lifecycle.hooks import registry
from lifecycle.image_reference import ImageReference
from training.registry import tags

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset

    Lineage = OperatorLineage[Any, Any]


def _dataset(namespace: str, name: str, version: str) -> "Dataset":
    # Imported here: the client takes a while, and the operators that import this module are imported by DAG files.
    from openlineage.client.event_v2 import Dataset
    from openlineage.client.facet_v2 import dataset_version_dataset

    facets: dict[str, Any] = {"version": dataset_version_dataset.DatasetVersionDatasetFacet(version)} if version else {}
    return Dataset(namespace=namespace, name=name, facets=facets)


def _data(location: str, digest: str) -> "Dataset":
    """A file or URI; ``abfss://container@account/path`` is namespace and name as OpenLineage lists them."""
    parts = urlsplit(location)
    namespace = f"{parts.scheme}://{parts.netloc}" if parts.scheme else "file"
    return _dataset(namespace, parts.path, digest)


def _model(use_case: str, version: str) -> "Dataset":
    return _dataset(settings.load().mlflow_url, f"models/{registry.model_name(use_case)}", version)


def _image(use_case: str, image: ImageReference) -> "Dataset":
    """An image of a registry or an engine, or the embedded stack's folder."""
    if image.kind == "folder":
        return _dataset("file", image.place, image.digest)
    server, _, repository = (image.place or settings.load().of(use_case).repository).rpartition("/")
    return _dataset(f"oci://{server}" if server else "oci", repository, image.digest)


def nothing() -> "Lineage":
    """A step that neither took nor made a data set; the provider warns of an operator that answers ``None``."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage()


def trained(use_case: str, data: str, run_key: str) -> "Lineage":
    """The data became a training run and, where the verdict allowed it, a model version."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    run_id = registry.training_run(use_case, run_key)
    version = registry.by_training_run(use_case, run_id, run_key) if run_id else None
    source = _data(data, version.tags.get(tags.DATA_DIGEST, "") if version else "")
    configured = settings.load()
    experiment = f"experiments{configured.of(use_case).experiment}"
    made = [_dataset(configured.mlflow_url, experiment, run_id)] if run_id else []
    if version:
        made.append(_model(use_case, version.version))
    return OperatorLineage(inputs=[source], outputs=made)


def built(use_case: str, version: str, image: ImageReference) -> "Lineage":
    """The model version became an image."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(inputs=[_model(use_case, version)], outputs=[_image(use_case, image)])


def deployed(use_case: str, image: ImageReference, target: str) -> "Lineage":
    """The image runs at a target: ``staging``, ``production`` or ``production-canary``."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    environment = settings.load().environment
    return OperatorLineage(
        inputs=[_image(use_case, image)],
        outputs=[_dataset(f"lifecycle://{environment}", f"{use_case}/{target}", image.digest)],
    )


def scored(use_case: str, pinned: dict[str, Any], tables: str) -> "Lineage":
    """A table and a model version became the scores of a date."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[_data(pinned["source"], ""), _model(use_case, pinned["version"])],
        outputs=[_data(f"{tables}/scores", pinned["day"])],
    )
