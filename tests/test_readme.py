"""The READMEs say what the rows say, whoever they put ahead."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_comparison import OURS, lines

from thesis_lib import paths
from thesis_lib.analysis import ablations, evaluation, labels, readme, tables
from thesis_lib.community.kpis import WEIGHTS
from thesis_lib.provenance import write_csv_atomic, write_json_atomic


@pytest.fixture(autouse=True)
def english():
    labels.use("en")
    yield
    labels.use("en")


def rows(level: float = 0.7, seeds: int = 10, met: float = 0.997, rival: float = 0.8) -> pd.DataFrame:
    found = lines(("business_as_usual", "default"), 0, 1.0) + lines(("rule", "default"), 0, rival)
    found += lines(("optimum", "bound"), 0, 0.5)
    for seed in range(seeds):
        found += lines(OURS, seed, level + seed / 1000, met)
    return pd.DataFrame(found, columns=evaluation.COLUMNS)


def test_the_readmes_hold_what_the_rows_of_the_thesis_say() -> None:
    """Fails when README.md or README.es.md and results/thesis/kpis.csv differ: run ``make readme``."""
    for file, text in readme.rendered("thesis").items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name}: run `make readme`"


def marked(part: str) -> str:
    return f"<!-- {part}: begin -->\nold\n<!-- {part}: end -->"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in readme.FILES.values():
        text = f"# Title\n\n{marked('results')}\n\n{marked('speed')}\n\nRest.\n"
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    text = f"# Algorithm\n\n{marked('gap')}\n\n{marked('ablations')}\n\n{marked('profile')}\n"
    (tmp_path / readme.ALGORITHM).write_text(text, encoding="utf-8")
    (tmp_path / readme.PROTOCOL).write_text(marked("tuning"), encoding="utf-8")
    for name in readme.HAND_TUNED:
        shutil.copy(paths.ROOT / "docs" / name, tmp_path / "docs")
    shutil.copytree(paths.configs(), tmp_path / "configs")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def test_a_changed_row_makes_the_check_fail(root: Path, capsys: pytest.CaptureFixture) -> None:
    file = paths.results("thesis") / "kpis.csv"
    write_csv_atomic(file, rows())
    assert readme.main([]) == 0 and readme.main(["--check"]) == 0
    text = (root / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Title\n") and text.endswith("\nRest.\n") and "0.705 ± 0.002" in text and "old" not in text
    assert "0,705 ± 0,002" in (root / "README.es.md").read_text(encoding="utf-8")
    write_csv_atomic(file, rows(level=0.7205))
    assert readme.main(["--check"]) == 1
    assert "not what the rows say" in capsys.readouterr().err
    assert readme.main([]) == 0 and "0.725" in (root / "README.md").read_text(encoding="utf-8")


def test_the_first_paragraph_says_who_is_ahead() -> None:
    first, second, *_ = readme.block(rows(), "thesis", 10).split("\n\n")
    assert "has the lowest composite" in first and "Spread rule (0.800)" in first and "Provisional" not in second
    assert "Optimum" not in first + second.split("No rows yet")[0]  # the bound is no competitor
    behind = readme.block(rows(rival=0.6), "thesis", 10).split("\n\n")[0]
    assert "is not the best" in behind and "Spread rule (0.600)" in behind and "lowest" not in behind
    fails = readme.block(rows(met=0.98), "thesis", 10).split("\n\n")[0]
    assert "fails the service gate" in fails and "lowest" not in fails
    assert "Provisional figures: 3 of 10 seeds" in readme.block(rows(seeds=3), "thesis", 10)
    assert "MARLISA" in second.split("No rows yet")[1]


def test_what_cars_do_not_take_is_told_beside_what_is_saved(root: Path) -> None:
    habits = pd.DataFrame(lines(("habits", "default"), 0, 0.8), columns=evaluation.COLUMNS)
    kpis = pd.concat([rows(), habits])
    assert "MWh" not in readme.block(kpis, "thesis", 10)
    for pair, energy in ((OURS, 54_700), (("business_as_usual", "default"), 96_000)):
        folder = paths.run("thesis", "official", *pair, 0)
        folder.mkdir(parents=True)
        pd.DataFrame({"charger/a": [energy + 50, -50], "battery/a": 3}).to_csv(folder / "flows.csv.gz", index=False)
    second = readme.block(kpis, "thesis", 10).split("\n\n")[1].replace(labels.SPACE, " ")
    assert "54.7 MWh net a year instead of 96.0" in second and "against them: cost −" in second


def test_what_learning_without_the_model_brings_is_told_beside_the_tuned_rule() -> None:
    found = lines(("tuned_rule", "default"), 0, 0.78)
    for seed in range(3):
        found += lines(("maddpg", "default"), seed, 0.775) + lines(("independent_sac", "default"), seed, 0.771)
    kpis = pd.concat([rows(), pd.DataFrame(found, columns=evaluation.COLUMNS)])
    second = readme.block(kpis, "thesis", 10).split("\n\n")[1]
    assert "the lowest is Independent SAC (0.771 ± 0.000); the tuned rule, 0.780" in second
    assert "(Independent SAC − MADDPG): −0.004 ± 0.000" in second


def test_a_training_that_diverges_is_told(root: Path) -> None:
    for seed in range(2):
        folder = paths.run("thesis", "official", *OURS, seed)
        log = pd.DataFrame({"update": [1, 2], "seconds": [1, 2], "composite": [0.7, 0.74 + seed], "passes": 1})
        whose = {"controller": OURS[0], "variant": OURS[1], "seed": seed}
        write_csv_atomic(folder / "training.csv", log.assign(**whose))
        write_json_atomic(folder / "run.json", {"stages": {}})
    assert "best checkpoint on validation (0.700), after which its training diverges (to 1.240)" in readme.block(
        rows(), "thesis", 10
    )


def test_without_rows_there_is_no_figure() -> None:
    for kpis in (None, rows().query("controller == 'rule'")):
        text = readme.block(kpis, "thesis", 10)
        assert "No figures yet" in text and not any(letter.isdigit() for letter in text)


def test_the_table_marks_bounds_and_who_fails() -> None:
    table = readme.block(pd.concat([rows(), rows(met=0.5).assign(variant="none").query("seed > 3")]), "thesis", 10)
    lines_ = [line for line in table.splitlines() if line.startswith("| ")]
    assert "‡" in next(line for line in lines_ if "Optimum" in line)
    assert "†" in lines_[-1] and "local" in lines_[-1]


def test_the_algorithm_tells_what_each_variant_changes(root: Path) -> None:
    assert readme.main([]) == 0 and "No figures yet" in (root / readme.ALGORITHM).read_text(encoding="utf-8")
    levels = {"headline": (0.68, 0.67, 0.69), "none": (0.7, 0.7, 0.7), "guard_off": (0.5, 0.5, 0.5)}
    table = [
        ("official", ablations.CONTROLLER, variant, seed, "test", kpi, value, "1", "model")
        for variant, values in levels.items()
        for seed, level in enumerate(values)
        for kpi, value in (
            ("composite_vs_bau", level),
            ("ev_departures_met", 0.5 if variant == "guard_off" else 1.0),
            ("appliance_cycles_served", 1.0),
        )
    ]
    kpis = pd.DataFrame(table, columns=evaluation.COLUMNS)
    for (variant, seed), own in kpis.groupby(["variant", "seed"]):
        folder = paths.run("ablations", "official", ablations.CONTROLLER, variant, seed)
        write_csv_atomic(folder / "kpis.csv", own)
        level = own.loc[own["kpi"] == "composite_vs_bau", "value"].iloc[0]
        weeks = [("model", week, kpi, level + week % 2 / 100) for week in range(12) for kpi in WEIGHTS]
        write_csv_atomic(folder / "weekly.csv", pd.DataFrame(weeks, columns=evaluation.WEEKLY))
        write_json_atomic(folder / "run.json", {"stages": {}, "homes": 17})
    usual = pd.DataFrame([("model", w, kpi, 1.0 + w / 100) for w in range(12) for kpi in WEIGHTS])
    folder = paths.run("ablations", "official", tables.BAU, "default", 0)
    write_csv_atomic(folder / "weekly.csv", usual.set_axis(evaluation.WEEKLY, axis=1))
    write_csv_atomic(folder / "kpis.csv", kpis.assign(controller=tables.BAU, variant="default", seed=0))
    write_json_atomic(folder / "run.json", {"stages": {}, "homes": 17})
    assert readme.main(["--check"]) == 1 and readme.main([]) == 0 and readme.main(["--check"]) == 0
    text = (root / readme.ALGORITHM).read_text(encoding="utf-8")
    none, off = (next(line for line in text.splitlines() if f"`{name}`" in line) for name in ("none", "guard_off"))
    assert none.startswith("| `none` | `headline` | +0.020 ± 0.025 | ") and none.endswith(" | < 0.001 | 3 | 100.0% |")
    assert off.endswith(" | 3 | 50.0% † |") and "attention" not in text


def test_each_speed_stands_beside_that_of_its_peer(root: Path) -> None:
    assert readme.speed("thesis") == labels.t("readme.nothing", command="make benchmark")
    folder = paths.results("speed")
    about = {"cpu": "A processor", "cpu_count": 2}
    steps = [{"what": "forward", "copies": n, "steps/s": 100 * n, "ratio": 1.25 * n} for n in (64, 1024)]
    write_json_atomic(folder / "model.json", about | {"rows": steps, "figures": {"citylearn_steps_per_s": 80.4}})
    training = {"usual_steps_per_s": 10.2, "steps_per_s": 30333.3, "ratio": 2973.9, "minutes_to_rule_level": 0.97}
    names = ("17 pairs on CityLearn", "17 pairs on CityLearn", "Cooperative MADDPG", "Cooperative MADDPG")
    rates = [{"what": what, "updates/s": rate} for what, rate in zip(names, (130.0, 165.2, 4.7, 9.5), strict=True)]
    level = {"rule": 0.87, "spent": 60.2, "steps": 12345, "composite": 1.5, "lowest": 0.9, "departures_met": 0.4}
    record = about | {"rows": rates, "figures": training, "config": {"variant": "broadcast"}}
    write_json_atomic(folder / "training.json", record | {"usual_level": level})
    pair = {"learner": "independent_td3", "bare_updates/s": 21.2, "sb3_updates/s": 12.4, "bare_ratio": 1.71}
    write_json_atomic(folder / "independent.json", about | {"rows": [pair]})
    text = readme.speed("thesis").replace(labels.SPACE, " ")
    assert "| 21 updates/s | Stable-Baselines3: 12 updates/s | 1.7 |" in text
    assert "| Community, 1,024 copies | 102,400 steps/s | CityLearn: 80 steps/s | 1,280 |" in text
    usual = "17 actor-critic pairs on CityLearn: 10 steps/s"
    assert f"| Training of Cooperative MADDPG (broadcast) | 30,333 steps/s | {usual} | 2,974 |" in text
    assert "`make benchmark`: A processor, 2 cores." in text and "6,400" not in text
    assert "Here 9.5 updates a second are made on both cores" in text
    assert "the usual way makes 165, each of a single agent" in text
    assert "not reach it in 60 min of one core: after 12,345 hours of CityLearn its composite" in text
    assert text.endswith("is 1.50 (0.90 at its best), with 40% of the departures met; the rule's is 0.87.")
    with labels.using("es"):
        assert "102 400 pasos/s" in readme.speed("thesis").replace(labels.SPACE, " ")
    write_json_atomic(folder / "training.json", record | {"usual_level": level | {"minutes": 60.2}})
    text = readme.speed("thesis").replace(labels.SPACE, " ")
    assert text.endswith("reaches it in 60 min of one core, after 12,345 hours of CityLearn.")
    write_json_atomic(folder / "training.json", record | {"usual_level": {}})  # not asked
    assert readme.speed("thesis").replace(labels.SPACE, " ").endswith("level in 1.0 min of one core.")


def test_a_gpu_stands_beside_the_usual_way_on_its_own_machine(root: Path) -> None:
    rows = [{"steps/s": 50.0}, {"copies": 64.0, "updates/s": 16.24}, {"copies": 1024.0, "updates/s": 9.96}]
    rows[2] |= {"steps/s": 500_000.0}
    about = {"device": "cuda:0 (A GPU)", "packages": {"torch": "2.1"}, "cpu_count": 16, "config": {"variant": "none"}}
    record = about | {"rows": rows, "figures": {"minutes": 1.63}, "whole": {"composite": 0.6753}}
    write_json_atomic(paths.results("speed") / "training_cuda.json", record)
    text = readme.speed("thesis").replace(labels.SPACE, " ")
    assert "| That of the variant “local”, 1,024 copies on one A GPU | 500,000 steps/s |" in text
    assert "CityLearn: 50 steps/s | 10,000 |" in text
    assert "torch 2.1 and 16 cores) makes 16.2 updates a second with 64 copies and 10.0 with 1,024" in text
    assert "takes 1.6 min" in text and text.endswith("best composite on the validation weeks is 0.675.")
    logs = {"seed": [0, 0, 1], "passes": [1.0, 0.0, 1.0], "composite": [0.681, 0.1, 0.672]}
    for seed, log in pd.DataFrame(logs).groupby("seed"):
        run = paths.run("thesis", "official", "cooperative_maddpg", "none", seed)
        write_csv_atomic(run / "training.csv", log)
        write_json_atomic(run / "run.json", {"stages": {}})
    assert "with 64, lies between 0.672 and 0.681" in readme._on_gpu(record, "thesis")


def test_the_algorithm_tells_where_an_updates_time_goes(root: Path) -> None:
    assert readme.update_time() == labels.t("readme.nothing", command="make benchmark")
    figures = {f"{form}_{what}_per_update": 1234.5 for form in ("before", "after") for what in ("s", "operators")}
    figures |= {"before_operators_share": 0.9, "after_operators_share": 0.7}
    figures |= {"seeds": 5, "seeds_s_per_update": 0.774, "seeds_saving": 1.368}
    shares = {("before", "a"): 0.75, ("before", "b"): 0.25, ("after", "a"): 0.5, ("after", "b"): 0.5}
    rows = [{"form": form, "part": part, "share": share} for (form, part), share in shares.items()]
    record = {"cpu": "A processor", "cpu_count": 2, "figures": figures, "rows": rows}
    write_json_atomic(paths.results("speed") / "where.json", record)
    assert readme.main([]) == 0 and readme.main(["--check"]) == 0
    text = (root / readme.ALGORITHM).read_text(encoding="utf-8")
    assert "| Part of an update | before | after |\n| --- | ---: | ---: |\n| a | 75.0% | 50.0% |\n| b | 25.0% |" in text
    assert "| seconds an update | 1,234.50 | 1,234.50 |" in text and "A processor, 2 cores." in text
    assert "| operators' own time, of what the profiler saw | 90.0% | 70.0% |" in text
    assert "With 5 times the batch" in text and "takes 0.77 s, which is 1.37 times quicker a copy." in text


def test_every_trial_counts_for_the_budget_of_its_learner(root: Path) -> None:
    hand = [pd.read_csv(root / "docs" / name) for name in readme.HAND_TUNED]
    lines = [line.strip("| ").split(" | ") for line in readme.budgets().splitlines()[2:]]
    assert sum(int(line[1]) for line in lines) == sum(map(len, hand))
    assert sum(float(line[2]) for line in lines) == pytest.approx(sum(file["minutes"].sum() for file in hand), abs=3)
    trials = {"state": ["COMPLETE", "PRUNED", "COMPLETE"], "composite": [0.79, 0.7, 0.78], "minutes": [3.0, 1.0, 4.0]}
    write_csv_atomic(paths.tuning("marlisa"), pd.DataFrame(trials))
    assert readme.budgets().splitlines()[-1] == "| MARLISA | 4 | 7 | 3 | 8 | 15 | 0.7900 | 0.7800 |"
    trials["state"][0] = "PRUNED"  # the search's first was stopped: no other trial stands for it
    write_csv_atomic(paths.tuning("marlisa"), pd.DataFrame(trials))
    assert readme.budgets().splitlines()[-1] == "| MARLISA | 4 | 7 | 3 | 8 | 15 | – | 0.7800 |"


BEGIN, END = marked("results").split("\nold\n")


@pytest.mark.parametrize("text", ["no markers", f"{END}\n{BEGIN}", f"{BEGIN}\n" * 2 + END])
def test_a_readme_without_its_markers_is_told_in_one_line(text: str) -> None:
    with pytest.raises(readme.ReadmeError) as told:
        readme.written(text, "results", "inner")
    assert "put them back" in str(told.value) and "\n" not in str(told.value)
