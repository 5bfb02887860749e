from pathlib import Path

import numpy as np
import pytest

from thesis_lib.community import splits


def test_known_rows():
    names = splits.split_of_rows()
    assert names.shape == (8760,)
    # August has 31 days: 1-17 train, 18-24 validation, 25-31 test.
    assert names[0] == "train" and names[17 * 24 - 1] == "train"
    assert names[17 * 24] == "validation" and names[24 * 24 - 1] == "validation"
    assert names[24 * 24] == "test" and names[31 * 24 - 1] == "test"
    assert names[31 * 24] == "train"  # 1 September
    # 2025-02 has 28 days and starts 184 days after the first of August.
    february = 184 * 24
    assert names[february + 14 * 24 - 1] == "train" and names[february + 14 * 24] == "validation"
    assert names[february + 21 * 24] == "test" and names[february + 28 * 24 - 1] == "test"


def test_sizes():
    names, counts = np.unique(splits.split_of_rows(), return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {"test": 2016, "train": 8760 - 4032, "validation": 2016}


def test_blocks_are_the_rows_of_the_split_and_nothing_else():
    names = splits.split_of_rows()
    seen = np.zeros(8760, int)
    for split in splits.SPLITS:
        ranges = splits.blocks(split)
        assert len(ranges) == 12
        for start, stop in ranges:
            assert (names[start:stop] == split).all()
            seen[start:stop] += 1
    assert (seen == 1).all()


def test_days_are_never_cut():
    names = splits.split_of_rows().reshape(-1, 24)
    assert (names == names[:, :1]).all()


def test_table_says_the_rows():
    table = splits.table()
    assert list(table.columns) == ["month", *splits.SPLITS] and len(table) == 12
    assert table.loc[0, "test"] == "25-31 (rows 576-744)"
    assert table.loc[11, "month"] == "2025-07" and table.loc[11, "test"].endswith("(rows 8592-8760)")


@pytest.mark.parametrize("call", [lambda: splits.blocks("tests"), lambda: splits.split_of_rows(0)])
def test_bad_input_is_named(call):
    with pytest.raises(ValueError, match="unknown split|at least 1"):
        call()


def test_the_protocol_shows_the_table():
    page = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")
    for line in splits.table().itertuples(index=False):
        assert f"| {' | '.join(line)} |" in page
