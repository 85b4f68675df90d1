"""The example notebook runs from top to bottom, at a tiny scale."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs/examples/from_photos_to_masks.ipynb"
TINY = """
PHOTOS, LABELLED, RECIPE = None, None, "demo"
NETWORK = {"model.backbone": "test_resnet", "model.head_channels": 16, "model.size": 64}
COMMON = {"data.scenes": 12, "data.batch_size": 4, "data.workers": 1, "train.device": "cpu"}
PRETRAINING = {**COMMON, **NETWORK, "model.queue": 64, "train.steps": 2}
FINETUNING = {**COMMON, **NETWORK, "data.short_side": 64, "data.batch_size": 2, "train.steps": 2}
"""


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    [parameters] = [
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())
    ]
    parameters.source = TINY
    client = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "pretrained: mIoU " in printed
    assert "random: mIoU " in printed
    assert "('background'" in printed
    assert list((tmp_path / "runs/pretrained/export").glob("*_timm.safetensors"))
