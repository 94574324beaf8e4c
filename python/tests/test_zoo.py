"""Every family of the zoo, imported, run and compared with transformers (see zoo.py)."""

from __future__ import annotations

import json
import re

import pytest

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

import zoo  # noqa: E402
from zoo import CASES, DTYPES  # noqa: E402


@pytest.fixture(scope="module", name="folder")
def make_folder(tmp_path_factory):
    """A folder for the checkpoint of a family in a type."""
    root = tmp_path_factory.mktemp("zoo")
    return lambda name, dtype: root / name / dtype


def documented(name: str) -> tuple[list[str], list[float]]:
    """The row of docs/Zoo.md for a family, and the errors in it."""
    cells = zoo.documented_row(name)
    errors = [cells[zoo.COLUMNS.index(f"error in {dtype}")] for dtype in DTYPES]
    return cells, [eval_power(error) for error in errors]


def eval_power(text: str) -> float:
    """The number that a cell like `2^-8 (eager)` or `0` says."""
    power = re.match(r"2\^(-?\d+)", text)
    return 2.0 ** int(power[1]) if power else 0.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_transformers(name, dtype, folder):
    got = zoo.compare(name, dtype, folder(name, dtype))
    print(got)
    assert got.is_good()
    # Another machine's matmuls add in another order: a factor of 4 in f32. In bf16 an exponential
    # may round the other way there, which is what the bound is for.
    _, errors = documented(name)
    if dtype == "f32":
        assert got.error <= 4 * errors[list(DTYPES).index(dtype)]
    if dtype == "bf16":
        text = zoo.zoo_text(name, folder(name, dtype))
        assert text == (zoo.ROOT / f"test/Zoo/{name}.mlir").read_text(), \
            "test/Zoo is not current: run python/tests/zoo.py --update"


@pytest.mark.parametrize("name", CASES)
def test_few_tokens(name, folder):
    """One token gives what it gives among others, and none gives nothing."""
    where = folder(name, "few")
    _, hidden = zoo.save_model(name, "bf16", where)
    y, ids = zoo.run_layer(name, where, hidden[:8])
    one, its_ids = zoo.run_layer(name, where, hidden[:1])
    assert torch.equal(one, y[:1]) and torch.equal(its_ids, ids[:1])
    nothing, no_ids = zoo.run_layer(name, where, hidden[:0])
    assert nothing.shape == (0, zoo.H) and no_ids.shape == (0, ids.shape[1])


@pytest.mark.parametrize("name", CASES)
def test_imports_all_layers_at_published_size(name, tmp_path):
    """With the configuration that transformers has by default; which layers are MoE layers."""
    blocks = zoo.save_published(name, tmp_path)
    imported = zoo.import_published(name, tmp_path)
    assert imported.partition(" ")[0] == str(blocks)
    assert documented(name)[0][zoo.COLUMNS.index("imports")] == imported


def test_nemotron_layers_by_letter(tmp_path):
    """Published configurations have a letter a layer, newer ones a word."""
    zoo.save_published("nemotron_h", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["layers_block_type"]
    config |= {"hybrid_override_pattern": "MEM*E-ME", "num_hidden_layers": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = zoo.run(zoo.tool("moe-import"), tmp_path, "--families", zoo.FAMILIES, "--dry-run")
    assert said.strip() == "Nemotron-H, 8 layers: could import MoE layers 1 to 7 (3)"


# A vision tower that is as small as it can be: the layer under test is in the text model.
VISION = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
          "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 32, "image_size": 28,
          "patch_size": 14, "vision_output_dim": 16, "projector_input_dim": 16,
          "projector_output_dim": 16}


@pytest.mark.filterwarnings("ignore:Casting complex values")  # of the vision tower
@pytest.mark.parametrize("name, model", [("llama4", "language_model.model"),
                                         ("gemma4", "model.language_model")])
def test_multimodal_checkpoints(name, model, tmp_path):
    """With a vision tower beside it the text model has another prefix, and its config is nested."""
    case = CASES[name]
    config = getattr(transformers, f"{case.model}Config")(
        text_config=zoo.SIZES | case.sizes, vision_config=VISION)
    whole = getattr(transformers, f"{case.model}ForConditionalGeneration")(config)
    whole.to(torch.bfloat16).save_pretrained(tmp_path)
    text = (zoo.ROOT / f"test/Zoo/{name}.mlir").read_text()
    text = text.replace("model.layers", f"{model}.layers").replace(f"{name}_text)", f"{name})")
    assert zoo.zoo_text(name, tmp_path) == text


def test_the_page_is_current():
    """But for what the tests above compare."""
    rows = []
    for name in CASES:
        text = (zoo.ROOT / f"test/Zoo/{name}.mlir").read_text().removeprefix(
            zoo.RUN_LINES.replace("LAYER", str(CASES[name].layer)))
        row, cells = zoo.table_row(name, {}, "", text), documented(name)[0]
        fused = zoo.fused_cells(name) if len(cells) > len(row) else []
        rows.append([cell if column.startswith(("error", "imports")) else mine for column, cell,
                     mine in zip(zoo.COLUMNS + zoo.FUSED_COLUMNS, cells, row + fused)])
    assert zoo.page(rows) == (zoo.ROOT / "docs/Zoo.md").read_text(), \
        "docs/Zoo.md is not current: run python/tests/zoo.py --update"
