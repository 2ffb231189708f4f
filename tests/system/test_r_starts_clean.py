"""R as if nobody had set it up: a user's files, options, libraries and locale change nothing."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

if shutil.which("Rscript") is None:
    pytest.skip("R is not installed", allow_module_level=True)
pytest.importorskip("rpy2.rinterface", exc_type=ImportError)

from test_rbridge import ROOT, study_tables

from locedit.report import rbridge

# A figure and a table, as the workflow's scripts have them made
MAKE = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from locedit.report import rbridge
from workflow_scripts import figure

out, scores, effects = Path(sys.argv[1]), *map(rbridge.read_frame, sys.argv[2:])
output = SimpleNamespace(**{kind: out / f"figure.{kind}" for kind in ("svg", "png", "json")})
sources = ["labels.yaml", "frames.R", "theme.R", "figures.R", "figures_scores.R"]
arguments = {"study": ["tinÿ 東"], "score": "rewrite"}
figure.draw({"scores": scores}, sources, "score_by_layer", arguments, output)
table = rbridge.call(
    "cluster_table",
    {"scores": scores, "effects": effects},
    {"score_names": ["rewrite"], "methods": ["ROME"]},
    [figure.ANALYSIS / name for name in ("frames.R", "groups.R", "clusters.R")],
)
table.to_csv(out / "table.csv")
(out / "versions.json").write_text(json.dumps(rbridge.versions(rbridge.PACKAGES)))
"""
MADE = ("figure.svg", "figure.png", "figure.json", "table.csv", "versions.json")
# Nothing of the machine that the tests run on
OURS = {k: v for k, v in os.environ.items() if not rbridge._USERS.match(k) and k != "TZ"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    paths = [folder / "scores.parquet", folder / "effects.parquet"]
    for path, table in zip(paths, study_tables(), strict=True):
        table.to_parquet(path)
    return paths


def made(folder: Path, inputs, code=MAKE, **variables):
    """Run in `folder`, with its `home` as home; what came out."""
    (folder / "home").mkdir(exist_ok=True)
    (folder / "out").mkdir()
    environment = {**OURS, "PYTHONPATH": str(ROOT), "HOME": str(folder / "home"), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "out"), *map(str, inputs)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: (folder / "out" / name).read_bytes() for name in MADE}


@pytest.fixture(scope="module")
def clean(inputs, tmp_path_factory):
    files = made(tmp_path_factory.mktemp("clean"), inputs)
    assert re.search(rb">0\.\d+<", files["figure.svg"])  # numbers are drawn
    return files


OPTIONS = """options(OutDec = ",", scipen = -9, digits = 3, warn = 2, stringsAsFactors = TRUE,
  contrasts = c("contr.sum", "contr.helmert"), na.action = "na.fail")"""
PROFILES = {
    "speaks": 'cat("Hello\\n")',
    "stops": 'stop("x")',
    "sets options": OPTIONS,
    "hides functions": "T <- FALSE; mean <- function(...) 0; draw <- mean_by <- mean",
}


@pytest.mark.parametrize("name", PROFILES)
def test_no_profile_of_the_home_is_read(tmp_path, inputs, clean, name):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".Rprofile").write_text(PROFILES[name] + "\n")
    assert made(tmp_path, inputs) == clean


@pytest.mark.parametrize("variable", [None, "R_PROFILE_USER", "R_PROFILE"])
def test_no_profile_of_the_working_folder_or_the_environment_is_read(
    tmp_path, inputs, clean, variable
):
    file = tmp_path / ("mine.R" if variable else ".Rprofile")
    file.write_text("\n".join(PROFILES[name] for name in ("sets options", "speaks", "stops")))
    assert made(tmp_path, inputs, **({variable: str(file)} if variable else {})) == clean


# What figures, tables and models in R may change with
SITE = """options(OutDec = ",", scipen = -9, digits = 3, digits.secs = 3, width = 20, warn = 2,
  encoding = "latin1", contrasts = c("contr.sum", "contr.helmert"), na.action = "na.fail",
  ggplot2.discrete.colour = "red", ggplot2.discrete.fill = "red",
  svglite.fix_text_size = FALSE, error = quote(q("no")))
"""


def installation(folder: Path, profile: str) -> Path:
    """The home of the machine's R with another Rprofile.site."""
    printed = subprocess.run(["R", "RHOME"], env=OURS, capture_output=True, text=True, check=True)
    real = Path(printed.stdout.strip())
    for part in (folder / "bin", folder / "etc"):
        part.mkdir(parents=True)
        for file in (real / part.name).iterdir():
            (part / file.name).symlink_to(file.resolve())
    for part in real.iterdir():
        if not (folder / part.name).exists():
            (folder / part.name).symlink_to(part)
    own = {
        "etc/Rprofile.site": profile,
        "bin/R": (real / "bin" / "R").read_text().replace(f"={real}\n", f"={folder}\n"),
        "bin/Rscript": f'#!/bin/sh\nexec {folder}/bin/R --no-echo --no-restore "$@"\n',
    }
    for name, text in own.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def test_no_option_of_the_installations_profile_counts(tmp_path, inputs, clean):
    home = installation(tmp_path / "R", SITE + 'Sys.setenv(READ = "yes")\n')
    assert made(tmp_path, inputs, R_HOME=str(home)) == clean
    # no table of ours depends on the last two
    asked = """paste(Sys.getenv("READ"), getOption("contrasts")[[1]], getOption("na.action"))"""
    read = f"from locedit.report import rbridge as r; print(*r._start_r().evalr({asked!r}))"
    environment = {**OURS, "PYTHONPATH": str(ROOT), "R_HOME": str(home)}
    command = [sys.executable, "-c", read]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    # "yes": the profile was read, else nothing was tried
    assert done.stdout == "yes contr.treatment na.omit\n"


def test_the_options_that_are_set_are_rs_own():
    code = f"""
    before <- options()
    ({rbridge._OPTIONS})("ggplot2")
    cat(identical(before, options()))
    """
    command = ["Rscript", "--vanilla", "-e", code]
    done = subprocess.run(command, env=OURS, capture_output=True, text=True, check=True)
    assert done.stdout == "TRUE", done.stderr


def library(folder: Path, *packages: str) -> Path:
    """A user's library of packages that cannot be loaded."""
    for package in packages:
        (folder / package).mkdir(parents=True)
        (folder / package / "DESCRIPTION").write_text(f"Package: {package}\nVersion: 99.0\n")
    return folder


THEIRS = ("ggplot2", "zoo", "stats", "rlang", "sandwich")


@pytest.mark.parametrize(
    "where", ["R_LIBS", "R_LIBS_USER", "home/.Renviron", ".Renviron", "R_ENVIRON_USER", "default"]
)
def test_packages_of_ours_come_from_rs_own_library(tmp_path, inputs, clean, where):
    (tmp_path / "home").mkdir()
    asked = 'cat(.expand_R_libs_env_var("%U"))'
    environment = {**OURS, "HOME": str(tmp_path / "home"), "R_PROFILE_USER": ""}
    default = subprocess.run(
        ["Rscript", "-e", asked], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert default.startswith(str(tmp_path))
    folder = library(Path(default) if where == "default" else tmp_path / "library", *THEIRS)
    setting = f"R_LIBS={folder}\nR_LIBS_USER={folder}\nR_DEFAULT_PACKAGES=NULL\nTZ=Asia/Tokyo\n"
    variables = {where: str(folder)} if where.startswith("R_LIBS") else {}
    if where.endswith("environ"):
        (tmp_path / where).write_text(setting)
    if where == "R_ENVIRON_USER":
        (tmp_path / "mine").write_text(setting)
        variables = {where: str(tmp_path / "mine"), "R_ENVIRON": str(tmp_path / "mine")}
    assert made(tmp_path, inputs, **variables) == clean


def test_a_saved_workspace_is_not_restored(tmp_path, inputs, clean):
    code = "mean <- mean_interval <- function(...) 0; T <- FALSE; save.image('.RData')"
    subprocess.run(["Rscript", "--vanilla", "-e", code], cwd=tmp_path, check=True)
    assert (tmp_path / ".RData").exists()
    assert made(tmp_path, inputs) == clean


def installed_locales():
    listed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False)
    return [name for name in listed.stdout.split() if re.match(r"(de|fr|es|tr)_", name)]


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "LANGUAGE": "de"},
        {"LANG": "xx_XX.ISO-8859-1", "LC_NUMERIC": "xx_XX"},
        *({"LC_ALL": name, "LANGUAGE": name} for name in installed_locales()),
        {"TZ": "Asia/Kathmandu"},
        {"TZ": "Nowhere/AtAll"},
        {"R_DEFAULT_PACKAGES": "NULL", "_R_CHECK_LENGTH_1_LOGIC2_": "true"},
    ],
    ids=str,
)
def test_neither_locale_nor_time_zone_nor_rs_own_variables_count(
    tmp_path, inputs, clean, variables
):
    assert made(tmp_path, inputs, **variables) == clean


# ---- a user's library that is needed -------------------------------------------------------------

LIBRARIES = """
import json, sys
from locedit.report import rbridge

rbridge.PACKAGES = (*rbridge.PACKAGES, *sys.argv[1:])
print(json.dumps(list(rbridge._start_r().evalr(".libPaths()"))))
"""


def libraries(*needed: str, **variables: str) -> list[str]:
    environment = {**OURS, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", LIBRARIES, *needed]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_users_library_comes_first_where_it_alone_has_what_is_needed(tmp_path):
    mine, other = library(tmp_path / "my own", "ours"), library(tmp_path / "other", "theirs")
    own = libraries()
    assert own
    given = {"R_LIBS_USER": str(mine), "R_LIBS": str(other)}
    assert libraries(**given) == own
    assert libraries("absent", **given) == own
    assert libraries("ours", **given) == [str(other), str(mine), *own]


def test_every_package_that_the_analysis_loads_is_known():
    text = "".join(path.read_text() for path in sorted((ROOT / "analysis").glob("*.R")))
    loaded = re.findall(r"\b([A-Za-z]\w+)::|\b(?:library|requireNamespace)\(\"?(\w+)", text)
    part_of_r = {"base", "stats", "utils", "grDevices", "grid"}
    assert {name for names in loaded for name in names if name} - part_of_r == {*rbridge.PACKAGES}


# ---- R itself ------------------------------------------------------------------------------------


def test_a_folder_that_is_not_rs_is_told_as_r_home(tmp_path, monkeypatch):
    monkeypatch.setenv("R_HOME", str(tmp_path))
    said = (
        rf"^R_HOME is {tmp_path}, which is not R's folder \(it has no bin/Rscript\): unset R_HOME, "
    )
    with pytest.raises(rbridge.RUnavailable, match=said + "or set it to what 'R RHOME' prints$"):
        rbridge._find_r_home()


def test_the_remedy_for_a_wrong_r_home_leads_out():
    printed = subprocess.run(["R", "RHOME"], env=OURS, capture_output=True, text=True, check=True)
    assert libraries(R_HOME=printed.stdout.strip()) == libraries() == libraries(R_HOME="")


def test_an_r_that_prints_more_than_it_is_asked_for_is_told(tmp_path):
    """As an installation's Rprofile.site may."""
    real = Path(subprocess.run(["R", "RHOME"], capture_output=True, text=True).stdout.strip())
    for part in real.iterdir():
        (tmp_path / part.name).symlink_to(part)
    (tmp_path / "bin").unlink()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "Rscript"
    program.write_text(f'#!/bin/sh\necho Hello\nexec {real}/bin/Rscript "$@"\n')
    own = tmp_path / "bin" / "R"
    own.write_text(f"#!/bin/sh\necho {tmp_path}\n")
    for one in (program, own):
        one.chmod(one.stat().st_mode | stat.S_IXUSR)
    environment = {**OURS, "PYTHONPATH": str(ROOT), "R_HOME": str(tmp_path)}
    code = "from locedit.report import rbridge; rbridge._start_r()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert "RUnavailable: R cannot be started (" in last
    assert last.endswith(f"see that '{program} -e 0' prints '[1] 0' and nothing else")


def test_starting_r_gives_the_environment_back(tmp_path):
    given = {"R_LIBS": "a", "R_PROFILE_USER": "b", "LC_ALL": "C", "LANG": "en", "R_LIBS_USER": "c"}
    code = (
        "import os; from locedit.report import rbridge; before = dict(os.environ); "
        "rbridge._start_r(); "
        "assert {k: os.environ.get(k) for k in before} == before; "
        "assert 'R_ENVIRON_USER' not in os.environ"
    )
    environment = {**OURS, "PYTHONPATH": str(ROOT), **given}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
