"""What importing the package costs and what it must not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ["ray", "torch", "transformers", "vllm", "faiss", "streamlit", "sentence_transformers", "pyarrow", "numpy"]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_importing_loads_no_heavy_library() -> None:
    loaded = run_python(f"import sys, lightrag; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded.strip() == "[]"


def test_importing_takes_under_half_a_second() -> None:
    code = "import time; start = time.perf_counter(); import lightrag; print(time.perf_counter() - start)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.5


def test_public_names_exist_and_are_complete() -> None:
    import lightrag

    for name in lightrag.__all__:
        assert getattr(lightrag, name) is not None
    assert set(lightrag.__all__) == {"__version__", *lightrag._HOMES}


def test_another_package_installed_over_this_one_is_named(tmp_path: Path) -> None:
    package = tmp_path / "lightrag"
    package.mkdir()
    (package / "__init__.py").write_text((ROOT / "lightrag/__init__.py").read_text(encoding="utf-8"), encoding="utf-8")
    (package / "operate.py").touch()
    result = subprocess.run(
        [sys.executable, "-c", "import lightrag"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "lightrag-hku" in result.stderr


def test_nothing_in_the_library_imports_ray_and_the_floors_hold() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stdout
