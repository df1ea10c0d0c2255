"""The operator that builds a model version's serving image, once."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.hooks.image_registry import CONNECTION_ID
from lifecycle.signing import check
from training.registry import tags

BUILT = "built_image"
"""Where the image is remembered that this task has built."""


class BuildImageOperator(BaseOperator):
    """Build the serving image of one registered model version, or find the one built from the same inputs.

    The context is ``serving/``, the version's bundle and ``k8s/``. The type of the connection chooses the
    builder (``lifecycle.builders``). Killing the task cancels the build. A bundle that nobody has signed is not built,
    and what is built is signed. An image that was found is used where it is signed, or where an earlier try of this
    task has built it and was killed before it could sign: anybody can put a label on an image.

    :param use_case: name of the use case, whose registered model it is.
    :param model_version: the version. (templated)
    :param conn_id: the registry's connection: azure_container_registry, azure, docker or fs.

    Returns ``{"image", "tag", "sbom_digest", "base", "scan", "signed_by", "reused"}``, also each by its name
    (``output["image"]``). ``image`` is the text of an ``ImageReference``: it is what is approved and deployed.
    ``signed_by`` says of ``bundle`` and ``image`` who has signed them, ``{"signer", "key"}``, or ``None``.
    """

    template_fields = ("model_version",)

    def __init__(self, *, use_case: str, model_version: Any, conn_id: str = CONNECTION_ID, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.conn_id = conn_id
        self.use_case = use_case
        self.model_version = model_version
        self._builder: Any = None
        self._built: Any = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Download the bundle, look for an image with these inputs, build it if there is none."""
        # Imported here: these take a second, and DAG files import this module.
        from lifecycle import builders, images
        from lifecycle.builders import context as build_inputs
        from lifecycle.builders import scan
        from lifecycle.hooks import registry
        from lifecycle.tasks.publish import git_revision

        configured = settings.load()
        model = registry.resolve(self.use_case, self.model_version)
        self._builder = builders.choose(self.conn_id)
        with tempfile.TemporaryDirectory() as scratch:
            bundle = registry.download_bundle(model.name, model.version, Path(scratch) / "bundle")
            signed_bundle = check.bundle(self.use_case, model, bundle)
            inputs = build_inputs.gather(
                model=model,
                bundle=bundle,
                repository=configured.of(self.use_case).repository,
                base_image=images.pinned(configured.scoring.base_image),
                revision=git_revision(),
                data_digest=model.tags.get(tags.DATA_DIGEST, ""),
                extras=configured.scoring.extras,
                signed_by=signed_bundle,
            )
            self.log.info("image %s:%s of %s version %s", inputs.repository, inputs.tag, model.name, model.version)
            scanned = self._scanned(scan, build_inputs.requirements(inputs), configured.release)
            memory, signs = context["task_state_store"], configured.signing.required or configured.signing.image_key
            built = self._builder.find(inputs)
            signed = check.signer_of(self.use_case, built, model.version) if built else None
            if built and signs and signed is None and memory.get(BUILT) != str(built):
                self.log.warning("%s was found and is not signed: it is built again", built)
                built = None
            reused = built is not None
            if built is None:
                folder = Path(scratch) / "context"
                build_inputs.write_context(inputs, bundle, folder)
                try:
                    built = self._builder.build(inputs, folder, memory)
                except builders.WrongModelError as error:
                    raise AirflowFailException(str(error)) from error
                memory.set(BUILT, str(built))
                signed = None
            if signs and signed is None:
                signed = check.sign_image(self.use_case, built, model.version)
        self._built = built
        self.log.info("%s %s", "found" if reused else "built", built)
        return {
            "image": str(built),
            "tag": inputs.tag,
            "sbom_digest": build_inputs.sbom_digest(inputs),
            "base": self._builder.base(inputs),
            "scan": msgspec.json.decode(msgspec.json.encode(scanned)),  # without tuples, which XComs show as text
            "signed_by": msgspec.to_builtins({"bundle": signed_bundle, "image": signed}),
            "reused": reused,
        }

    def _scanned(self, scan: Any, requirements: str, limits: settings.Release) -> Any:
        """The scan of an image to be; what is not released by the settings is not built either."""
        found = scan.scan(requirements, limits.advisories, days=limits.advisories_days)
        self.log.info("%s", found.sentence)
        if said := scan.objection(found, blocked_from=limits.blocked_from, unscanned_blocks=limits.unscanned_blocks):
            raise AirflowFailException(f"this image is not released: {said}")
        return found

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Model version and image, where OpenLineage is configured."""
        from lifecycle.evidence import lineage

        return lineage.built(self.use_case, self.model_version, self._built)

    def on_kill(self) -> None:
        """Stop the build that is under way; the next try finds or repeats it."""
        if self._builder is not None:
            self._builder.cancel()
