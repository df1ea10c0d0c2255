"""Embedded images for tests: folders that the bundle builder makes from small real models."""

from pathlib import Path

from airflow.models.connection import Connection

from lifecycle.builders.context import Inputs, gather, write_context
from lifecycle.builders.folder import BundleBuilder
from lifecycle.hooks.registry import Version
from lifecycle.image_reference import ImageReference


def inputs_of(bundle: Path, version: str) -> Inputs:
    return gather(
        model=Version("employee_attrition", version, "run", {}),
        bundle=bundle,
        repository="attrition-scoring",
        base_image="python:3.11-slim",
        revision="abc",
        data_digest="d",
    )


def bundle_builder(folder: Path) -> BundleBuilder:
    return BundleBuilder(Connection(conn_id="registry", conn_type="fs", extra={"path": str(folder)}))


def build_image(images: Path, scratch: Path, bundle: Path, version: str) -> ImageReference:
    """A folder image of this bundle as this version."""
    inputs = inputs_of(bundle, version)
    write_context(inputs, bundle, scratch / inputs.tag)
    return bundle_builder(images).build(inputs, scratch / inputs.tag, {})
