"""The configuration that `serve deploy` takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from deployments.app import build
from deployments.manifest import manifest
from lightrag.config import load_settings
from lightrag.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


def test_the_committed_manifest_is_the_one_of_the_committed_settings() -> None:
    committed = yaml.safe_load((ROOT / "cluster" / "serve.yaml").read_text(encoding="utf-8"))
    assert committed == manifest(ROOT / "cluster" / "settings.yaml")
    ServeDeploySchema.model_validate(committed)


def test_its_arguments_build_the_application_with_every_stage() -> None:
    (described,) = manifest(ROOT / "cluster" / "settings.yaml")["applications"]
    ingress = build(described["args"])
    assert ingress._bound_deployment.name == "Ingress"
    stages = {node._bound_deployment.name: node._bound_deployment for node in ingress._bound_deployment.init_args[1:]}
    assert list(stages) == ["Recall", "Retrieval", "Compression", "Generation", "Conversation"]
    scaled = stages["Recall"]._deployment_config.autoscaling_config
    assert (scaled.min_replicas, scaled.max_replicas, scaled.target_ongoing_requests) == (1, 4, 8)
    assert stages["Generation"].ray_actor_options["num_gpus"] == 1
    assert stages["Conversation"].num_replicas == 1


def test_a_secret_in_the_settings_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("generator: {api_key: hush}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="LRAG_GENERATOR__API_KEY") as caught:
        manifest(path)
    assert "hush" not in str(caught.value)


def test_bounds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="maximum=1 is below minimum=2"):
        load_settings(service={"recall": {"minimum": 2, "maximum": 1}})


def test_the_command_says_what_is_wrong_with_a_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("nonsense: 1\n", encoding="utf-8")
    command = [sys.executable, "-m", "deployments.manifest", "--config", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "nonsense: no such setting" in result.stderr
