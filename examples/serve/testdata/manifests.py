"""Checks Kubernetes manifests against its schemas, strictly: python manifests.py FILE"""
import sys

import kubernetes_validate
import yaml

with open(sys.argv[1]) as f:
    for document in yaml.safe_load_all(f):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        bad = yaml.safe_load(yaml.safe_dump(document))
        bad["spec"]["nonsense"] = 1
        try:
            kubernetes_validate.validate(bad, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError:
            continue
        raise AssertionError("nonsense passes")
print("ok")
