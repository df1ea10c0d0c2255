"""The page for clusters that follow git says who owns what, and that is what the scripts and the image have."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gitops.md").read_text()
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| ")]


def owned(owner: str) -> set[str]:
    """The kinds in the first column of an owner's rows."""
    return {kind for row in ROWS if row[1].startswith(owner) for kind in re.findall(r"[A-Z]\w+", row[0])}


def kinds(*folders: str) -> set[str]:
    """The kinds of objects in these folders of ``k8s``, but for those of kustomize itself."""
    files = [path for folder in folders for path in (ROOT / "k8s" / folder).rglob("*.yaml")]
    documents = [one for path in files for one in yaml.safe_load_all(path.read_text()) if one]
    return {one["kind"] for one in documents} - {"Kustomization", "Component"}


def test_repository_owns_what_the_scripts_print():
    assert kinds("rbac", "admission") - {"ConfigMap"} <= owned("your repository")


def test_release_owns_what_its_image_carries():
    assert kinds("base", "components") | {"ConfigMap"} <= owned("the release")
    assert owned("the release") & owned("your repository") == {"ServiceAccount"}


def test_examples_are_yaml_and_leave_the_stop_switch_alone():
    (switch,) = [
        one
        for one in yaml.safe_load_all((ROOT / "k8s" / "rbac" / "switch.yaml").read_text())
        if one and one["kind"] == "ConfigMap"
    ]
    assert "annotations" not in switch["metadata"], "the patch for Flux adds all of them"
    name = switch["metadata"]["name"]
    argo, flux = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    (ignored,) = argo["spec"]["ignoreDifferences"]
    assert (ignored["kind"], ignored["name"], ignored["jsonPointers"]) == ("ConfigMap", name, ["/data"])
    assert "RespectIgnoreDifferences=true" in argo["spec"]["syncPolicy"]["syncOptions"]
    (patch,) = flux["spec"]["patches"]
    assert patch["target"] == {"kind": "ConfigMap", "name": name}
    (change,) = yaml.safe_load(patch["patch"])
    assert change["value"] == {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}
    assert "targetNamespace" not in flux["spec"]


def test_scripts_that_the_page_calls_are_there():
    called = set(re.findall(r"k8s/[\w.]+\.sh", PAGE))
    assert called == {"k8s/rbac.sh", "k8s/admission.sh", "k8s/switch.sh"}
    assert all((ROOT / name).is_file() for name in called)
