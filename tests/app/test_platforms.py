from pathlib import Path

import pytest

from app.errors import StartupError
from app.platforms import platform_settings
from app.settings import load_settings


def test_nothing_is_wished_outside_a_platform(tmp_path: Path) -> None:
    assert platform_settings({}, tmp_path / "none") == {}


def test_model_folder_of_sagemaker_is_taken_where_it_is(tmp_path: Path) -> None:
    assert platform_settings({}, tmp_path) == {"model_repository": str(tmp_path)}


def test_bucket_is_no_folder(tmp_path: Path) -> None:
    assert platform_settings({"AIP_STORAGE_URI": "gs://bucket/model"}, tmp_path / "none") == {}


def test_variables_of_vertex_are_settings(tmp_path: Path) -> None:
    environment = {
        "AIP_HTTP_PORT": "9000",
        "AIP_HEALTH_ROUTE": "/h",
        "AIP_PREDICT_ROUTE": "/p:predict",
    }
    assert platform_settings(environment, tmp_path / "none") == {
        "port": "9000",
        "vertex_health_route": "/h",
        "vertex_predict_route": "/p:predict",
    }


def test_own_settings_win_over_those_of_a_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_HTTP_PORT", "9000")
    assert load_settings().port == 9000
    assert load_settings(port=9001).port == 9001
    monkeypatch.setenv("GATECAST_PORT", "9002")
    assert load_settings().port == 9002


def test_port_is_that_of_the_platforms_where_none_is_named() -> None:
    assert load_settings().port == 8080


@pytest.mark.parametrize("path", ["predict", "/", "/a{b}", "/a b", "/a//b"])
def test_route_that_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(StartupError, match="GATECAST_VERTEX_PREDICT_ROUTE"):
        load_settings(vertex_predict_route=path)
